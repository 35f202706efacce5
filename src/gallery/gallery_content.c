/*
 * gallery_content - Content-Type by file name, as `aws s3` sends it.
 *
 * It asks Python's mimetypes.guess_type() and sends nothing when that knows no type, which S3 then
 * stores as binary/octet-stream. What is written here of that function: a compression suffix
 * (.gz .bz2 .xz .Z .br, in this case only) is taken off first and the type is the inner file's;
 * dots at the start of a name begin no suffix; suffixes are known in any case. The table is the
 * part of Python's, as Debian has it (with media-types), that a microscope's or an analysis' files
 * meet.
 */
#include "gallery_private.h"

#define UNKNOWN_TYPE "binary/octet-stream"

static const struct {
	const char *suffix;
	const char *type;
} types[] = {
	{".7z", "application/x-7z-compressed"},
	{".arrow", "application/vnd.apache.arrow.file"},
	{".asc", "application/pgp-keys"},
	{".avi", "video/x-msvideo"},
	{".bat", "application/x-msdos-program"},
	{".bib", "text/x-bibtex"},
	{".bin", "application/octet-stream"},
	{".bmp", "image/bmp"},
	{".c", "text/x-csrc"},
	{".cif", "chemical/x-cif"},
	{".cpp", "text/x-c++src"},
	{".css", "text/css"},
	{".csv", "text/csv"},
	{".dcm", "application/dicom"},
	{".dll", "application/x-msdos-program"},
	{".doc", "application/msword"},
	{".docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
	{".dot", "text/vnd.graphviz"},
	{".dv", "video/dv"},
	{".eps", "application/postscript"},
	{".exe", "application/x-msdos-program"},
	{".geojson", "application/geo+json"},
	{".gif", "image/gif"},
	{".gv", "text/vnd.graphviz"},
	{".gz", "application/gzip"},
	{".h", "text/x-chdr"},
	{".h5", "application/x-hdf5"},
	{".hdf", "application/x-hdf"},
	{".heic", "image/heic"},
	{".htm", "text/html"},
	{".html", "text/html"},
	{".ico", "image/vnd.microsoft.icon"},
	{".ics", "text/calendar"},
	{".jar", "application/java-archive"},
	{".java", "text/x-java"},
	{".jp2", "image/jp2"},
	{".jpe", "image/jpeg"},
	{".jpeg", "image/jpeg"},
	{".jpg", "image/jpeg"},
	{".js", "text/javascript"},
	{".json", "application/json"},
	{".jsonld", "application/ld+json"},
	{".m", "application/vnd.wolfram.mathematica.package"},
	{".markdown", "text/markdown"},
	{".md", "text/markdown"},
	{".mjs", "text/javascript"},
	{".mol", "chemical/x-mdl-molfile"},
	{".mov", "video/quicktime"},
	{".mp4", "video/mp4"},
	{".mpeg", "video/mpeg"},
	{".mpg", "video/mpeg"},
	{".mrc", "application/marc"},
	{".nc", "application/x-netcdf"},
	{".obj", "model/obj"},
	{".odp", "application/vnd.oasis.opendocument.presentation"},
	{".ods", "application/vnd.oasis.opendocument.spreadsheet"},
	{".odt", "application/vnd.oasis.opendocument.text"},
	{".pdb", "chemical/x-pdb"},
	{".pdf", "application/pdf"},
	{".pl", "text/x-perl"},
	{".png", "image/png"},
	{".ppt", "application/vnd.ms-powerpoint"},
	{".pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	{".ps", "application/postscript"},
	{".py", "text/x-python"},
	{".rar", "application/vnd.rar"},
	{".rb", "application/x-ruby"},
	{".rtf", "application/rtf"},
	{".sdf", "chemical/x-mdl-sdfile"},
	{".sh", "text/x-sh"},
	{".sig", "application/pgp-signature"},
	{".sql", "application/sql"},
	{".sqlite", "application/vnd.sqlite3"},
	{".sqlite3", "application/vnd.sqlite3"},
	{".stl", "model/stl"},
	{".svg", "image/svg+xml"},
	{".tar", "application/x-tar"},
	{".tex", "text/x-tex"},
	{".text", "text/plain"},
	{".tif", "image/tiff"},
	{".tiff", "image/tiff"},
	{".tsv", "text/tab-separated-values"},
	{".txt", "text/plain"},
	{".wav", "audio/x-wav"},
	{".webm", "video/webm"},
	{".webp", "image/webp"},
	{".xls", "application/vnd.ms-excel"},
	{".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	{".xml", "application/xml"},
	{".xsl", "application/xslt+xml"},
	{".xz", "application/x-xz"},
	{".zip", "application/zip"},
	{".zst", "application/zstd"},
};

/* One suffix that stands for two. */
static const struct {
	const char *suffix;
	const char *inner;
} doubles[] = {
	{".svgz", ".svg"},
	{".taz", ".tar"},
	{".tbz2", ".tar"},
	{".tgz", ".tar"},
	{".txz", ".tar"},
	{".tz", ".tar"},
};

static const char *const compressions[] = {".gz", ".Z", ".bz2", ".xz", ".br"};

/* The suffix of name[0..len), dot included: "" if it has none. */
static size_t suffix_at(const char *name, size_t len)
{
	size_t lead = strspn(name, "."), at = len;

	while (at > lead && name[at - 1] != '.')
		at--;
	return at > lead ? at - 1 : len;
}

static bool is_suffix(const char *suffix, size_t len, const char *known)
{
	return len == strlen(known) && strncasecmp(suffix, known, len) == 0;
}

static const char *type_of_suffix(const char *suffix, size_t len)
{
	for (size_t i = 0; i < array_len(types); i++) {
		if (is_suffix(suffix, len, types[i].suffix))
			return types[i].type;
	}
	return UNKNOWN_TYPE;
}

static bool is_compression(const char *suffix)
{
	for (size_t i = 0; i < array_len(compressions); i++) {
		if (strcmp(suffix, compressions[i]) == 0)
			return true;
	}
	return false;
}

const char *content_type_of(const char *name)
{
	const char *slash = strrchr(name, '/');
	const char *base = slash ? slash + 1 : name;
	size_t len = strlen(base), at = suffix_at(base, len);

	for (size_t i = 0; i < array_len(doubles); i++) {
		if (is_suffix(base + at, len - at, doubles[i].suffix))
			return type_of_suffix(doubles[i].inner, strlen(doubles[i].inner));
	}
	if (is_compression(base + at)) {
		len = at;
		at = suffix_at(base, len);
	}
	return type_of_suffix(base + at, len - at);
}
