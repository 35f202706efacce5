/*
 * remote_page - a server's pages are judged before they are believed: a listing that would never
 * end, or that speaks of other places, is an error and not an endless loop or an escape.
 *
 * Tokens are opaque and may be many, so only two hashes are kept: the last one, and one that is
 * replaced after 1, 2, 4, 8 … tokens. Any cycle of tokens meets the kept one sooner or later
 * (R. P. Brent, "An improved Monte Carlo factorization algorithm", 1980).
 */
#include "remote_page.h"

/* Some servers answer now and then with a page that holds nothing yet (they filter after reading);
 * this many in a row is not a listing any more. */
#define EMPTY_PAGES_MAX 8

static bool token_repeats(struct remote_paging *p, const char *token)
{
	uint64_t hash = crc64nvme(0, token, strlen(token)) | 1; /* 0: none yet */

	if (hash == p->token_last || hash == p->token_mark)
		return true;
	p->token_last = hash;
	if (p->tokens_since_mark++ >= p->tokens_to_next_mark) {
		p->token_mark = hash;
		p->tokens_since_mark = 0;
		p->tokens_to_next_mark = p->tokens_to_next_mark * 2 + 1;
	}
	return false;
}

static bool entry_is_plausible(const struct remote_paging *p, const struct s3_list_entry *e)
{
	size_t prefix_len = strlen(p->prefix);
	const char *slash;

	if (e->key_len < prefix_len || memcmp(e->key, p->prefix, prefix_len) != 0)
		return false;
	if (memchr(e->key, '\0', e->key_len))
		return false;
	if (p->recursive)
		return !e->is_prefix;
	slash = memchr(e->key + prefix_len, '/', e->key_len - prefix_len);
	return e->is_prefix ? slash == e->key + e->key_len - 1 : !slash;
}

int remote_page_check(struct remote_paging *p, const struct s3_list_page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		if (!entry_is_plausible(p, &page->entries[i]))
			return -EIO;
	}
	p->empty_in_row = page->count == 0 ? p->empty_in_row + 1 : 0;
	if (!page->truncated)
		return 0;
	if (!page->next_token || !*page->next_token || token_repeats(p, page->next_token))
		return -EIO;
	return p->empty_in_row > EMPTY_PAGES_MAX ? -EIO : 0;
}

static int compare_keys(const void *pa, const void *pb)
{
	const struct s3_list_entry *a = pa, *b = pb;
	int d = memcmp(a->key, b->key, a->key_len < b->key_len ? a->key_len : b->key_len);

	if (d != 0)
		return d;
	return a->key_len < b->key_len ? -1 : a->key_len > b->key_len;
}

void remote_page_sort(struct s3_list_page *page)
{
	for (size_t i = 1; i < page->count; i++) {
		if (compare_keys(&page->entries[i - 1], &page->entries[i]) > 0) {
			qsort(page->entries, page->count, sizeof(*page->entries), compare_keys);
			return;
		}
	}
}

const char *remote_page_name(const char *prefix, const struct s3_list_entry *entry, size_t *ret_len)
{
	size_t prefix_len = strlen(prefix);

	*ret_len = entry->key_len - prefix_len - (entry->is_prefix ? 1 : 0);
	return entry->key + prefix_len;
}
