# bash completion for cpgfs: commands, options and their values as the program's own help lists them,
# which is made from its table of options; presets, profiles and what is mounted as they are now.
# Installed as /usr/share/bash-completion/completions/cpgfs.

_cpgfs_commands() {
	"$program" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'
}

# COMMAND: the lines of its help that list options: usage, and the left column of the table.
_cpgfs_listed() {
	"$program" "$1" --help 2>/dev/null |
		awk '/^Usage:/ { usage = 1 } /^$/ { usage = 0 } usage { print }
			/^  -/ { sub(/^  /, ""); sub(/  .*/, ""); print }'
}

_cpgfs_options() { # COMMAND
	case $1 in
	check | plan | verify | repair) _cpgfs_listed mount | grep '^--' ;; # they take those of a mount, too
	esac
	_cpgfs_listed "$1"
}

# COMMAND OPTION: what its help calls the value: "NAME", "hold|clean|refuse|off"; nothing for a flag.
_cpgfs_value() {
	_cpgfs_options "$1" | sed -n "s/.*\(^\|[[ ]\)$2 \([A-Za-z0-9|,]*\).*/\2/p" | head -n 1
}

_cpgfs_profiles() {
	sed -n 's/^\[\(profile \)\{0,1\}\([^] ]*\)\]$/\2/p' "${AWS_SHARED_CREDENTIALS_FILE:-$HOME/.aws/credentials}" \
		"${AWS_CONFIG_FILE:-$HOME/.aws/config}" 2>/dev/null | sort -u
}

_cpgfs_galleries() {
	"$program" galleries 2>/dev/null | sed -n 's/^\([^ ]\{1,\}\) .*/\1/p'
}

_cpgfs_mounted() {
	awk '$3 == "fuse.cpgfs" { gsub(/\\040/, " ", $2); print $2 }' /proc/self/mounts
}

_cpgfs_words() { # WORDS, one a line, on standard input
	local IFS=$'\n'
	mapfile -t COMPREPLY < <(compgen -W "$(cat)" -- "$word")
}

_cpgfs_files() { # [-d]: only directories
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "${1:--f}" -- "$word")
}

_cpgfs() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]}
	local command=${COMP_WORDS[1]} value
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		_cpgfs_words < <(_cpgfs_commands)
		return
	fi
	if [ "$word" = = ]; then # bash takes --option=value for three words
		word=
	elif [ "$before" = = ]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	if [[ $word == -* ]]; then
		_cpgfs_words < <(_cpgfs_options "$command" | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u)
		return
	fi
	case $before in
	--gallery) _cpgfs_words < <(_cpgfs_galleries) && return ;;
	--profile) _cpgfs_words < <(_cpgfs_profiles) && return ;;
	--*)
		value=$(_cpgfs_value "$command" "$before")
		case $value in
		*'|'*) _cpgfs_words < <(tr '|' '\n' <<<"$value") && return ;;
		DIR) _cpgfs_files -d && return ;;
		FILE) _cpgfs_files && return ;;
		'') ;; # a flag
		*) return ;; # a number, a time, a name that only its owner knows
		esac
		;;
	esac
	case $command in
	galleries) _cpgfs_words < <(_cpgfs_galleries) ;;
	mount) _cpgfs_files -d ;;
	*)
		[ -n "$word" ] || _cpgfs_words < <(_cpgfs_mounted)
		[ ${#COMPREPLY[@]} -gt 0 ] || _cpgfs_files
		;;
	esac
}
complete -F _cpgfs cpgfs
