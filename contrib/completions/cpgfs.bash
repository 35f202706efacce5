# bash completion for cpgfs: commands and options as the program's own help lists them.
# Install as /usr/share/bash-completion/completions/cpgfs.

_cpgfs() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]}
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$program" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')" -- "$word")
		return
	fi
	case $before in
	--naming) mapfile -t COMPREPLY < <(compgen -W 'hold clean refuse off' -- "$word") && return ;;
	--view) mapfile -t COMPREPLY < <(compgen -W 'merged uploaded' -- "$word") && return ;;
	--log-level) mapfile -t COMPREPLY < <(compgen -W 'error warn info debug' -- "$word") && return ;;
	--profile)
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^\[\(profile \)\{0,1\}\([^]]*\)\]$/\2/p' \
			~/.aws/credentials ~/.aws/config 2>/dev/null)" -- "$word")
		return
		;;
	esac
	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$program" "${COMP_WORDS[1]}" --help 2>/dev/null |
			grep -oE -- '--[a-z][a-z-]+' | sort -u)" -- "$word")
		return
	fi
	compopt -o filenames
	mapfile -t COMPREPLY < <(compgen -f -- "$word")
}
complete -F _cpgfs cpgfs
