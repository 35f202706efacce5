/*
 * gallery - what the gallery says about names: naming rule, held names, local name ⇄ key. Pure
 *           functions, no I/O.
 *
 * Owns:     nothing.
 * Threads:  every function may be called from any thread; a policy is constant after init.
 * Errors:   0 or -errno.
 * Source:   Cell Painting Gallery, contributing_to_cpg.md and data_structure.md (folders: no
 *           whitespace, no special characters but _ and -; file names are freer); S3 user guide,
 *           "Naming Amazon S3 objects" (key: 1..1,024 bytes of UTF-8).
 * Tests:    tests/unit/test_gallery_*.c
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 20
#error "gallery.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/base.h"

enum naming_mode {
	NAMING_HOLD,   /* default: accepted, kept local, state held */
	NAMING_CLEAN,  /* refused characters are removed (or replaced) on the way to the key */
	NAMING_REFUSE, /* EINVAL when such a folder is made */
	NAMING_OFF,    /* no rule but S3's own */
};

/* Why a name is not a key as it stands. NAME_OK is 0. */
enum name_verdict {
	NAME_OK,
	NAME_TEMPORARY, /* rsync's .x.XXXXXX, .~tmp~, .rsync-partial, *.part, *.partial, *.tmp, … */
	NAME_JUNK,     /* .DS_Store, Thumbs.db, ._*, $RECYCLE.BIN, System Volume Information, … */
	NAME_REFUSED,  /* a folder name the gallery refuses */
	NAME_TOO_LONG, /* the key would exceed 1,024 bytes */
	NAME_NOT_TEXT, /* not UTF-8, or a control character: S3 listings could not show it */
};

struct naming_policy {
	enum naming_mode mode;
	char clean_with; /* '\0': remove; else the replacing character ('_' usually) */
	/* fnmatch patterns in any case, NULL-ended; NULL: the built-in list, {NULL}: none */
	const char *const *temporary;
	const char *const *junk;
};

must_check int naming_mode_parse(const char *text, enum naming_mode *ret);
const char *naming_mode_text(enum naming_mode mode);
/* Value of --clean-with: "" (remove) or one letter, digit, _ or -. -EINVAL. */
must_check int naming_clean_with_parse(const char *text, char *ret);

/*
 * Judge one component. is_folder: the strict rule (letters, digits, _ - and inner dots; no leading
 * or trailing dot) holds for folders down to the plate, i.e. at depth <= NAMING_STRICT_DEPTH
 * components of the key; below, and for files, other characters are fine (at most a warning).
 * depth counts from 1 for the first component of the key (the project). Under NAMING_CLEAN a strict
 * folder is NAME_OK if it can be cleaned; under NAMING_OFF nothing is strict. "", ".", ".." and
 * names with a '/' are always NAME_REFUSED.
 */
#define NAMING_STRICT_DEPTH 6 /* project/source/images/batch/images/plate */
enum name_verdict name_judge(
	const struct naming_policy *p, const char *name, bool is_folder, unsigned depth);

/*
 * Judge a whole path relative to the mount root ("a/b/c", no leading slash; the last component is
 * a folder if is_folder). Returns the first verdict that is not NAME_OK, and then
 * *ret_component / *ret_len name the component inside path. "" (the root) is NAME_OK.
 */
enum name_verdict path_judge(const struct naming_policy *p, const char *path, bool is_folder,
	const char **ret_component, size_t *ret_len);

/* Text for a person: what is wrong and the way out ("rename it in the mount, or
 * cpgfs rename-clean"). verdict must not be NAME_OK. */
void name_reason(const struct naming_policy *p, enum name_verdict verdict, const char *component,
	size_t len, char *out, size_t out_size);

/* The component as the naming rule would have it: refused characters removed or replaced (one for
 * one character), dots at its ends too. Writes at most size bytes with the NUL; -EINVAL when
 * nothing is left or a held name ("a .tmp"), -ENAMETOOLONG. */
must_check int name_clean(const struct naming_policy *p, const char *name, char *out, size_t size);

/* The same text for names that a person takes for one: without case and with letters in one Unicode
 * form (NFC). malloc'ed; NULL when out of memory. Bytes that are no text stay as they are. */
char *name_fold(const char *name);

/*
 * Key of a path relative to the mount root. Under NAMING_CLEAN the strict folder components are
 * cleaned; otherwise the path is the key. A path's own bytes are never normalised.
 * 0, -EINVAL (path_judge is not NAME_OK under this mode, empty), -ENAMETOOLONG (> 1,024 bytes).
 */
#define KEY_MAX_BYTES 1024
must_check int path_to_key(const struct naming_policy *p, const char *path, bool is_folder,
	char out[KEY_MAX_BYTES + 1]);

/*
 * Can this component of a listed key be shown as a file name? No for "", ".", "..", ".cpgfs" at the
 * mount root, over 255 bytes, or bytes that FUSE cannot carry ('/' can't occur, NUL can't).
 */
bool key_component_is_showable(const char *name, size_t len, bool at_root);

/* "a/b" or "a/b/" or "" is a valid prefix to mount: UTF-8, at most 1,024 bytes, every component
 * showable. out gets the form without trailing slash. -EINVAL, -ENAMETOOLONG. */
must_check int prefix_normalise(const char *prefix, char out[KEY_MAX_BYTES + 1]);

/*
 * Where a path lies relative to the mounted prefix "p/q": inside (at or below it), above (one of
 * the synthesised levels "", "p"), or outside (EACCES). Both in the form of prefix_normalise().
 */
enum prefix_side { PREFIX_INSIDE, PREFIX_ABOVE, PREFIX_OUTSIDE };
enum prefix_side prefix_side_of(const char *prefix, const char *path);

/* Content-Type by file name as `aws s3` guesses it (Python mimetypes' table, the part this field
 * uses); "binary/octet-stream" when unknown. */
const char *content_type_of(const char *name);

/*
 * Does a finished file look cut off? head is its first head_len bytes (>= 16 when the file has
 * them; more lets the IFD be read if it is there). For .tif/.tiff names, classic and BigTIFF: the
 * magic must be there and the first IFD, with at least one entry, must lie inside size_bytes. Other
 * names: never. An empty file never looks cut off.
 */
bool tiff_looks_cut_off(
	const char *name, const uint8_t *head, size_t head_len, uint64_t size_bytes);

/*
 * ---- layout: what goes where --------------------------------------------------------------------
 *
 * A gallery's layout is a text file (contrib/galleries/NAME.layout, whose head says how it reads),
 * compiled once. A key is project/source/…, without the bucket.
 */
struct layout;

enum layout_mode {
	LAYOUT_MODE_WARN, /* default: what is wrong is listed */
	LAYOUT_MODE_ENFORCE, /* EPERM when it is made */
	LAYOUT_MODE_OFF,
};
must_check int layout_mode_parse(const char *text, enum layout_mode *ret);
const char *layout_mode_text(enum layout_mode mode);

enum layout_class {
	LAYOUT_REQUIRED, /* a rule takes it, and a contribution needs such a file */
	LAYOUT_OPTIONAL,
	LAYOUT_WARN,  /* taken, but a person should look */
	LAYOUT_WRONG, /* a known mistake, or no rule takes it */
};

/* Levels that the program knows by name; a layout may have others, for its own templates. */
enum layout_level {
	LAYOUT_PROJECT,
	LAYOUT_SOURCE,
	LAYOUT_BATCH,
	LAYOUT_FULLPLATE, /* the plate's folder as the microscope named it */
	LAYOUT_PLATE,	  /* its short name, see plate_short_name() */
	LAYOUT_WELL,
	LAYOUT_SITE,
	LAYOUT_CHANNEL,
	LAYOUT_LEVELS,
};

struct layout_match {
	enum layout_class class;
	int rule;   /* for layout_rule_name(); -1: no rule takes the key */
	int should; /* the level, of the layout's own, whose warning applies; -1: none */
	struct layout_span {
		size_t start, len; /* in the key; len 0: the rule has no such level */
	} level[LAYOUT_LEVELS];
};

/* text: a whole layout file. -EINVAL: *ret_message (malloc'ed) says "line N: what, and what would
 * be right"; -ENOMEM. */
must_check int layout_create(struct layout **ret, const char *text, char **ret_message);
void layout_destroy(struct layout *l); /* NULL is fine */

/* The text of a layout that comes with the program ("cellpainting"); NULL: there is none. */
const char *layout_builtin(const char *name);

/* Which rule takes this key. Any thread. -ENOMEM. */
must_check int layout_match(const struct layout *l, const char *key, struct layout_match *ret);
/* Can a key below this folder ("a/b", no slash at its end) be right or at least taken? */
bool layout_takes_folder(const struct layout *l, const char *folder);

/*
 * Folders that every contribution has directly below this one: those with fixed names, above the
 * batches, that lead to what the layout requires. In the Cell Painting Gallery "cpg0123-x/broad" has
 * images and workspace, workspace/metadata has platemaps. By name; none where a level is not what it
 * should be, so that other projects are left alone.
 */
#define LAYOUT_STANDARD_MAX 8
#define LAYOUT_STANDARD_NAME_MAX 63
struct layout_standard {
	unsigned count;
	char names[LAYOUT_STANDARD_MAX + 1][LAYOUT_STANDARD_NAME_MAX + 1];
};
void layout_standard_folders(
	const struct layout *l, const char *folder, struct layout_standard *ret);
bool layout_is_standard(const struct layout *l, const char *folder, const char *name);

const char *layout_rule_name(const struct layout *l, int rule); /* "images.raw"; "unknown" for -1 */
/* The level that needs a file of this rule each (plate, batch, …); LAYOUT_LEVELS: none. */
enum layout_level layout_rule_per(const struct layout *l, int rule);
int layout_rules(const struct layout *l); /* rules are 0 … n-1, in the file's order */
const char *layout_level_name(enum layout_level level);

/*
 * Where plates are: the folder (a path from the bucket's root) whose folders are the next level
 * below `count` given ones. In the Cell Painting Gallery {} is "", {project} "project", {project,
 * source} "project/source/images", {project, source, batch} "project/source/images/batch/images",
 * and LAYOUT_PLATE_DEPTH values give the plate's own folder. -ENOENT: the layout has no plates, or
 * not so many levels.
 */
#define LAYOUT_PLATE_DEPTH 4
must_check int layout_plate_folder(
	const struct layout *l, const char *const *values, unsigned count, struct buf *out);

/* For WARN and WRONG: what is wrong and the likely fix, without the key itself. */
void layout_explain(
	const struct layout *l, const char *key, const struct layout_match *m, struct buf *out);

/*
 * ---- images of a plate --------------------------------------------------------------------------
 */
enum image_vendor {
	IMAGE_OTHER,	   /* not a name that tells its well */
	IMAGE_HARMONY,	   /* Opera Phenix, Operetta: r01c01f01p01-ch1sk1fk1fl1.tiff */
	IMAGE_OPERETTA,	   /* older Operetta: r01c01f01p01rc1-ch1sk1fk1fl1.tiff, rc = channel */
	IMAGE_YOKOGAWA,	   /* CV7000, CV8000: PLATE_A01_T0001F001L01A06Z01C06.tif */
	IMAGE_IMAGEXPRESS, /* HTS_A01_s1_w3UUID.tif, with or without UUID, site, _thumb */
	IMAGE_INCELL,	   /* A - 01(fld 1 wv 390 - Blue).tif */
	IMAGE_INCELL_7,	   /* A_1_f1_c1_x…_m…_z0_t0.tif */
	IMAGE_CELLOMICS,   /* PLATE_A01f00d0.TIF */
	IMAGE_NIKON,	   /* Well1_Point1_0001_ChannelDAPI_Seq0000.nd2: a well by number */
	IMAGE_VENDORS,
};

struct image_name {
	enum image_vendor vendor;
	unsigned row, col; /* from 1; row 27 is AA. NIKON: row 0, col = the well's number */
	unsigned site; /* as the name counts it (some from 0, some from 1); 1 where it has none */
	unsigned channel;     /* the number in the name; where it has a text, a hash of that text */
	unsigned plane, time; /* 1 where the name has none */
	bool thumbnail;	      /* ImageXpress' _thumb beside its image */
};

/* name: the file's own name, without folders. Returns false and IMAGE_OTHER when it tells no well.
 * Source: CellProfiler's guesses for file names; names of the JUMP sources. Any thread. */
bool image_name_parse(const char *name, struct image_name *ret);
const char *image_vendor_text(enum image_vendor vendor);

/* "A01", "AF48"; -EINVAL for rows beyond AZ (52) or columns beyond 99. */
must_check int well_parse(const char *text, size_t len, unsigned *ret_row, unsigned *ret_col);
void well_format(unsigned row, unsigned col, char out[8]); /* row 0: "Well12" */

/* The plate's short name in its folder's name: what stands before the first "__". */
size_t plate_short_name(const char *fullplate, size_t len);

/*
 * What one plate has, image by image. Complete is: every well seen × every site seen × every
 * channel seen × every plane and time point seen, or what was pinned. Missing sites do occur for
 * good reasons, so this is a question to a person, not a verdict.
 */
struct plate;

#define PLATE_ROWS_MAX 32 /* 1,536 wells: A … AF × 1 … 48 */
#define PLATE_COLS_MAX 48

struct plate_pin { /* 0: as seen */
	unsigned wells, sites, channels;
};
/* "384,9,5" (wells, sites per well, channels); an empty number is "as seen". -EINVAL. */
must_check int plate_pin_parse(const char *text, struct plate_pin *ret);

struct plate_facts {
	unsigned rows,
		cols; /* the smallest of 6, 12, 24, 48, 96, 384 and 1,536 wells that holds all */
	unsigned wells, sites, channels,
		stacks;	 /* distinct ones seen; stacks: planes × time points */
	uint64_t images; /* distinct images */
	uint64_t twice;	 /* further files for the same image */
	uint64_t thumbnails;
	uint64_t expected; /* images, by what was seen and pinned */
	uint64_t missing;  /* expected and not there */
};

must_check int plate_create(struct plate **ret);
void plate_destroy(struct plate *p); /* NULL is fine */
/* -ERANGE: a well beyond 32 × 48 or more kinds than any microscope makes; -ENOMEM. */
must_check int plate_add(struct plate *p, const struct image_name *image);
must_check int plate_sum(
	const struct plate *p, const struct plate_pin *pin, struct plate_facts *ret); /* -ENOMEM */
/* Calls each for every missing combination, wells in order, until it returns false. Wells that the
 * pin says must be there and that have no image at all come with site 0. It takes as long as there
 * are images and calls: absurd names mean absurdly many, so each should stop at some point. -ENOMEM. */
must_check int plate_each_missing(const struct plate *p, const struct plate_pin *pin,
	bool (*each)(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
		unsigned plane, unsigned time),
	void *user);

/*
 * ---- presets: a gallery by its name ----------------------------------------------------------------
 *
 * contrib/galleries/NAME.ini: section [gallery] says what it is, [mount] gives options of
 * `cpgfs mount`. Who reads the files: src/cli/cli_gallery.c.
 */
enum gallery_credentials {
	GALLERY_CHAIN,        /* keys as any AWS tool finds them */
	GALLERY_ACCESS_GRANT, /* keys that are exchanged for those of a prefix */
	GALLERY_ROLE,         /* a profile that assumes a role */
};
const char *gallery_credentials_text(enum gallery_credentials c); /* "access-grant" */

struct gallery_option {
	unsigned line; /* where in the file */
	char *name, *value;
};

struct gallery_preset {
	char *description, *bucket; /* never NULL */
	char *url, *layout;         /* NULL: none */
	enum gallery_credentials credentials;
	struct gallery_option *options; /* names are not looked at here; each stands once */
	size_t option_count;
};

/* May a gallery be called so? Letters, digits, '_', '-' and inner dots, at most 64. */
bool gallery_name_is_valid(const char *name);
/* text: a whole file of len bytes; changed. -EINVAL: *ret_message (malloc'ed) says "line N: what, and
 * what exists"; -ENOMEM. */
must_check int gallery_preset_parse(
	struct gallery_preset *ret, char *text, size_t len, char **ret_message);
void gallery_preset_release(struct gallery_preset *p);
