/*
 * cli_credentials - keys on their way from a person to the mount: where they are read from.
 */
#pragma once

#include "cpgfs/auth.h"

#define CREDENTIALS_TEXT_MAX (256 * KIB)

struct credentials_text {
	char *text; /* secret_alloc'ed, CREDENTIALS_TEXT_MAX + 1 bytes, ends with a NUL */
	size_t len;
	const char *from; /* "standard input", "the environment" */
};
void credentials_text_release(struct credentials_text *t);

/* Does this word of the command line look like a key, a setting or JSON that holds one? */
bool credentials_word_is_secret(const char *word);
/* Lines NAME=value of what this process's environment has of AWS keys; -ENOENT: nothing. */
must_check int credentials_from_environment(struct credentials_text *ret);
/* All of fd. -EFBIG: more than any credentials. */
must_check int credentials_from_pipe(int fd, struct credentials_text *ret);
/* Typed or pasted at a terminal, unseen, until Ctrl-D or an empty line after something. -ECANCELED:
 * Ctrl-C. */
must_check int credentials_from_terminal(int fd, struct credentials_text *ret);

/* Something odd about keys that are usable as far as their form goes: a placeholder, a temporary
 * key without its session token, a long-lived one with another's. "" if there is nothing; never a
 * value. */
void credentials_oddity(const struct s3_credentials *keys, char *out, size_t size);
/* "…WXYZ": what a person may see of a key id. */
void credentials_key_tail(const struct s3_credentials *keys, char out[16]);
