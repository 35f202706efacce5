/*
 * What is told about credentials: never a key, a token or an answer's text that could hold one.
 */
#include "auth_private.h"

#include <inttypes.h>

const char *auth_state_text(enum auth_state s)
{
	switch (s) {
	case AUTH_ANONYMOUS:
		return "anonymous";
	case AUTH_FETCHING:
		return "fetching";
	case AUTH_GOOD:
		return "good";
	case AUTH_NONE:
		return "none";
	case AUTH_EXPIRED:
		return "expired";
	}
	return "?";
}

static enum auth_state state_of(const struct auth *a)
{
	if (a->anonymous)
		return AUTH_ANONYMOUS;
	if (auth_usable_locked(a))
		return AUTH_GOOD;
	if (a->synced.wanted || a->synced.trying || !a->synced.first_done)
		return AUTH_FETCHING;
	return !a->synced.has && a->synced.error == -ENOKEY ? AUTH_NONE : AUTH_EXPIRED;
}

static int64_t next_try_ns(const struct auth *a)
{
	if (a->synced.wanted || a->synced.trying)
		return clock_wall_ns();
	if (a->synced.try_at_ms != INT64_MAX)
		return clock_wall_ns() +
		       (a->synced.try_at_ms - clock_mono_ms()) * (NS_PER_S / MS_PER_S);
	return a->synced.renew_at_ns ? a->synced.renew_at_ns - a->synced.clock_offset_ns : 0;
}

void auth_status(struct auth *a, struct auth_status *ret)
{
	const struct auth_result *current;
	*ret = (struct auth_status){.state = AUTH_ANONYMOUS};
	with_lock(&a->lock);
	ret->state = state_of(a);
	if (a->anonymous) {
		text_copy(ret->source, "none: requests are not signed", sizeof(ret->source));
		return;
	}
	text_copy(ret->source, a->synced.source, sizeof(ret->source));
	text_copy(ret->error, a->synced.why.error, sizeof(ret->error));
	text_copy(ret->remedy, a->synced.why.remedy, sizeof(ret->remedy));
	ret->failed_at_ns = a->synced.failed_at_ns;
	ret->tries_failed = a->synced.tries_failed;
	ret->renewals = a->synced.renewals;
	ret->renew_at_ns = next_try_ns(a);
	if (!a->synced.has)
		return;
	current = a->synced.current;
	ret->expires_at_ns = current->keys.expires_at_ns;
	ret->by_grant = current->by_grant;
	ret->permission = current->permission;
	text_copy(ret->matched_target, current->target, sizeof(ret->matched_target));
}

/* Appends as far as there is room. */
static void add(char *out, size_t size, const char *fmt, ...) printf_like(3, 4);
static void add(char *out, size_t size, const char *fmt, ...)
{
	size_t len = strlen(out);
	va_list args;
	va_start(args, fmt);
	if (vsnprintf(out + len, size - len, fmt, args) < 0)
		out[len] = '\0';
	va_end(args);
}

static void add_good(const struct auth_status *s, char *out, size_t size)
{
	char when[32];
	if (s->by_grant)
		add(out, size, ", access grant %.100s%s", s->matched_target,
			s->permission == AUTH_READ ? " (only reading)" : "");
	if (s->expires_at_ns) {
		time_format_iso8601(s->expires_at_ns, when);
		add(out, size, ", until %s", when);
	}
}

void auth_describe(struct auth *a, char out[256])
{
	struct auth_status s;
	auth_status(a, &s);
	out[0] = '\0';
	add(out, 256, "%.160s", s.source);
	switch (s.state) {
	case AUTH_ANONYMOUS:
		break;
	case AUTH_GOOD:
		add_good(&s, out, 256);
		break;
	case AUTH_FETCHING:
		add(out, 256, ": asking");
		break;
	case AUTH_NONE:
		out[0] = '\0';
		add(out, 256, "none found: %s", s.remedy);
		break;
	case AUTH_EXPIRED:
		add(out, 256, ": %s", s.error);
		break;
	}
}

void auth_explain_shortly(const struct auth_status *s, char out[512])
{
	out[0] = '\0';
	if (!s->error[0] || s->state == AUTH_ANONYMOUS)
		return;
	add(out, 512, "%.120s: %.230s", s->source, s->error);
	if (s->remedy[0])
		add(out, 512, "; %.120s", s->remedy);
}

void auth_explain(struct auth *a, char out[512])
{
	struct auth_status s;
	auth_status(a, &s);
	auth_explain_shortly(&s, out);
	if (!out[0])
		return;
	int64_t wait_s = s.renew_at_ns ? (s.renew_at_ns - clock_wall_ns()) / NS_PER_S : 0;
	if (s.state == AUTH_GOOD)
		add(out, 512, "; the old ones are still good");
	else if (wait_s > 0)
		add(out, 512, "; tried again in %" PRId64 " s", wait_s);
}
