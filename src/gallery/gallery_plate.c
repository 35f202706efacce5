/*
 * gallery_plate - what one plate has, counted well by well.
 *
 * A combination of site, channel, plane and time point is a column; each well has a bit per column.
 * Few columns occur (9 sites × 8 channels = 72), so a 384-well plate takes some 4 KiB.
 */
#include "cpgfs/gallery.h"

enum { COLUMNS_MAX = 1 << 16, WORD_BITS = 64 };

struct column {
	unsigned site, channel, plane, time;
};

struct well {
	uint64_t *bits; /* by column; words of them */
	unsigned words;
	unsigned images;
	bool seen;
};

struct plate {
	struct well wells[PLATE_ROWS_MAX + 1][PLATE_COLS_MAX + 1]; /* row 0: wells by number */
	struct column *columns;					   /* in order of appearance */
	unsigned column_count, column_space;
	unsigned *slots; /* hash table of column + 1, 2 × column_space long */
	uint64_t images, twice, thumbnails;
};

int plate_create(struct plate **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void plate_destroy(struct plate *p)
{
	if (!p)
		return;
	for (unsigned row = 0; row <= PLATE_ROWS_MAX; row++) {
		for (unsigned col = 0; col <= PLATE_COLS_MAX; col++)
			free(p->wells[row][col].bits);
	}
	free(p->columns);
	free(p->slots);
	free(p);
}

static unsigned column_hash(const struct column *c)
{
	uint64_t h = c->site;

	h = h * 0x9e3779b97f4a7c15u + c->channel;
	h = h * 0x9e3779b97f4a7c15u + c->plane;
	h = h * 0x9e3779b97f4a7c15u + c->time;
	return (unsigned)((h * 0x9e3779b97f4a7c15u) >> 32);
}

static bool column_same(const struct column *a, const struct column *b)
{
	return a->site == b->site && a->channel == b->channel && a->plane == b->plane &&
	       a->time == b->time;
}

/* The slot of a column, or the free one where it would go. */
static unsigned *slot_of(const struct plate *p, const struct column *c)
{
	unsigned mask = 2 * p->column_space - 1; /* a power of 2, half of it free */

	for (unsigned at = column_hash(c) & mask;; at = (at + 1) & mask) {
		unsigned *slot = &p->slots[at];

		if (*slot == 0 || column_same(&p->columns[*slot - 1], c))
			return slot;
	}
}

static int columns_grow(struct plate *p)
{
	unsigned space = p->column_space ? 2 * p->column_space : 64;
	struct column *columns = reallocarray(p->columns, space, sizeof(*columns));
	unsigned *slots;

	if (!columns)
		return -ENOMEM;
	p->columns = columns;
	slots = calloc(2 * (size_t)space, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(p->slots);
	p->slots = slots;
	p->column_space = space;
	for (unsigned i = 0; i < p->column_count; i++)
		*slot_of(p, &p->columns[i]) = i + 1;
	return 0;
}

static int column_index(struct plate *p, const struct column *c, unsigned *ret)
{
	unsigned *slot;

	if (p->column_count == p->column_space) {
		if (p->column_count >= COLUMNS_MAX)
			return -ERANGE;
		if (columns_grow(p) < 0)
			return -ENOMEM;
	}
	slot = slot_of(p, c);
	if (*slot == 0) {
		p->columns[p->column_count++] = *c;
		*slot = p->column_count;
	}
	*ret = *slot - 1;
	return 0;
}

static int well_room(struct well *w, unsigned column)
{
	unsigned words = column / WORD_BITS + 1;
	uint64_t *bits;

	if (words <= w->words)
		return 0;
	bits = reallocarray(w->bits, words, sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	memset(bits + w->words, 0, (words - w->words) * sizeof(*bits));
	w->bits = bits;
	w->words = words;
	return 0;
}

static bool well_has(const struct well *w, unsigned column)
{
	return column / WORD_BITS < w->words &&
	       (w->bits[column / WORD_BITS] >> (column % WORD_BITS) & 1);
}

int plate_add(struct plate *p, const struct image_name *image)
{
	struct column c = {image->site, image->channel, image->plane, image->time};
	struct well *w;
	unsigned column;
	int status;

	if (image->row > PLATE_ROWS_MAX || image->col > PLATE_COLS_MAX)
		return -ERANGE;
	if (image->thumbnail) {
		p->thumbnails++;
		return 0;
	}
	w = &p->wells[image->row][image->col];
	status = column_index(p, &c, &column);
	if (status == 0)
		status = well_room(w, column);
	if (status < 0)
		return status;
	w->seen = true;
	if (well_has(w, column)) {
		p->twice++;
		return 0;
	}
	w->bits[column / WORD_BITS] |= (uint64_t)1 << (column % WORD_BITS);
	w->images++;
	p->images++;
	return 0;
}

/* The values a field of the columns takes, ascending. */
struct axis {
	unsigned *values;
	size_t count;
};

static int by_value(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

static int axis_make(const struct plate *p, size_t field, struct axis *ret)
{
	size_t n = 0;
	unsigned *values = calloc(p->column_count + 1, sizeof(*values));

	if (!values)
		return -ENOMEM;
	for (unsigned i = 0; i < p->column_count; i++)
		memcpy(&values[i], (const char *)&p->columns[i] + field, sizeof(*values));
	qsort(values, p->column_count, sizeof(*values), by_value);
	for (unsigned i = 0; i < p->column_count; i++) {
		if (n == 0 || values[n - 1] != values[i])
			values[n++] = values[i];
	}
	*ret = (struct axis){.values = values, .count = n};
	return 0;
}

struct axes {
	struct axis site, channel, plane, time;
};

static void axes_free(struct axes *a)
{
	free(a->site.values);
	free(a->channel.values);
	free(a->plane.values);
	free(a->time.values);
}

static int axes_make(const struct plate *p, struct axes *a)
{
	int status = axis_make(p, offsetof(struct column, site), &a->site);

	if (status == 0)
		status = axis_make(p, offsetof(struct column, channel), &a->channel);
	if (status == 0)
		status = axis_make(p, offsetof(struct column, plane), &a->plane);
	if (status == 0)
		status = axis_make(p, offsetof(struct column, time), &a->time);
	return status;
}

/* The smallest usual plate that holds every well. */
static void plate_format(const struct plate *p, unsigned *ret_rows, unsigned *ret_cols)
{
	static const struct {
		unsigned rows, cols;
	} formats[] = {{2, 3}, {3, 4}, {4, 6}, {6, 8}, {8, 12}, {16, 24}, {32, 48}};
	unsigned rows = 0, cols = 0;

	for (unsigned row = 1; row <= PLATE_ROWS_MAX; row++) {
		for (unsigned col = 1; col <= PLATE_COLS_MAX; col++) {
			if (!p->wells[row][col].seen)
				continue;
			rows = row;
			cols = col > cols ? col : cols;
		}
	}
	*ret_rows = *ret_cols = 0;
	for (size_t i = 0; i < array_len(formats) && rows > 0; i++) {
		*ret_rows = formats[i].rows;
		*ret_cols = formats[i].cols;
		if (rows <= formats[i].rows && cols <= formats[i].cols)
			return;
	}
}

static unsigned wells_seen(const struct plate *p)
{
	unsigned n = 0;

	for (unsigned row = 0; row <= PLATE_ROWS_MAX; row++) {
		for (unsigned col = 0; col <= PLATE_COLS_MAX; col++)
			n += p->wells[row][col].seen;
	}
	return n;
}

/* Names that no microscope writes can mean more images than can be counted. */
static uint64_t product(uint64_t a, uint64_t b)
{
	uint64_t c;

	return __builtin_mul_overflow(a, b, &c) ? UINT64_MAX : c;
}

int plate_sum(const struct plate *p, const struct plate_pin *pin, struct plate_facts *ret)
{
	cleanup_with(axes_free) struct axes a = {0};
	uint64_t wells, sites, channels;

	if (axes_make(p, &a) < 0)
		return -ENOMEM;
	*ret = (struct plate_facts){
		.wells = wells_seen(p),
		.sites = (unsigned)a.site.count,
		.channels = (unsigned)a.channel.count,
		.stacks = (unsigned)(a.plane.count * a.time.count),
		.images = p->images,
		.twice = p->twice,
		.thumbnails = p->thumbnails,
	};
	plate_format(p, &ret->rows, &ret->cols);
	wells = pin->wells ? pin->wells : ret->wells;
	sites = pin->sites ? pin->sites : ret->sites;
	channels = pin->channels ? pin->channels : ret->channels;
	ret->expected = product(
		product(wells, sites), product(channels, ret->stacks ? ret->stacks : 1));
	ret->missing = ret->expected > ret->images ? ret->expected - ret->images : 0;
	return 0;
}

/* Walks the missing combinations of one well; false: stop. */
struct missing {
	const struct plate *p;
	const struct axes *axes;
	bool (*each)(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
		unsigned plane, unsigned time);
	void *user;
};

static bool has(const struct plate *p, const struct well *w, const struct column *c)
{
	unsigned slot = *slot_of(p, c);

	return slot > 0 && well_has(w, slot - 1);
}

static bool missing_of_site(
	const struct missing *m, unsigned row, unsigned col, unsigned site, unsigned channel)
{
	const struct axes *a = m->axes;

	for (size_t z = 0; z < a->plane.count; z++) {
		for (size_t t = 0; t < a->time.count; t++) {
			struct column c = {site, channel, a->plane.values[z], a->time.values[t]};

			if (!has(m->p, &m->p->wells[row][col], &c) &&
				!m->each(m->user, row, col, site, channel, c.plane, c.time))
				return false;
		}
	}
	return true;
}

static bool missing_of_well(const struct missing *m, unsigned row, unsigned col)
{
	const struct axes *a = m->axes;

	for (size_t s = 0; s < a->site.count; s++) {
		for (size_t c = 0; c < a->channel.count; c++) {
			if (!missing_of_site(m, row, col, a->site.values[s], a->channel.values[c]))
				return false;
		}
	}
	return true;
}

int plate_each_missing(const struct plate *p, const struct plate_pin *pin,
	bool (*each)(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
		unsigned plane, unsigned time),
	void *user)
{
	cleanup_with(axes_free) struct axes a = {0};
	struct missing m = {.p = p, .axes = &a, .each = each, .user = user};
	unsigned rows, cols;

	if (axes_make(p, &a) < 0)
		return -ENOMEM;
	plate_format(p, &rows, &cols);
	for (unsigned row = 0; row <= PLATE_ROWS_MAX; row++) {
		for (unsigned col = 0; col <= PLATE_COLS_MAX; col++) {
			bool seen = p->wells[row][col].seen;
			bool wanted = pin->wells == rows * cols && row > 0 && row <= rows &&
				      col > 0 && col <= cols;

			if (seen && !missing_of_well(&m, row, col))
				return 0;
			if (!seen && wanted && !each(user, row, col, 0, 0, 0, 0))
				return 0;
		}
	}
	return 0;
}

int plate_pin_parse(const char *text, struct plate_pin *ret)
{
	unsigned *const fields[] = {&ret->wells, &ret->sites, &ret->channels};
	struct plate_pin none = {0};

	*ret = none;
	for (size_t i = 0; i < array_len(fields); i++) {
		size_t len = strspn(text, "0123456789");

		if (len > 4 || text[len] != (i + 1 < array_len(fields) ? ',' : '\0'))
			return -EINVAL;
		for (size_t k = 0; k < len; k++)
			*fields[i] = *fields[i] * 10 + (unsigned)(text[k] - '0');
		text += len + 1;
	}
	return 0;
}
