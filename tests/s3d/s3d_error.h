/*
 * error - the S3 errors s3d answers with: code, HTTP status, message.
 */
#pragma once

/* ERROR_X(name, status, code, message) */
#define S3D_ERRORS(X)                                                                              \
	X(NONE, 200, "", "")                                                                       \
	X(ACCESS_DENIED, 403, "AccessDenied", "Access Denied")                                     \
	X(HEADER_NOT_SIGNED, 403, "AccessDenied",                                                  \
		"There were headers present in the request which were not signed")                 \
	X(AUTH_MALFORMED, 400, "AuthorizationHeaderMalformed",                                     \
		"The authorization header is malformed; the region or the date is wrong.")         \
	X(AUTH_QUERY, 400, "AuthorizationQueryParametersError",                                    \
		"The authorization query parameters are malformed.")                               \
	X(BAD_DIGEST, 400, "BadDigest",                                                            \
		"The checksum you specified did not match the calculated checksum.")               \
	X(BUCKET_OWNED, 409, "BucketAlreadyOwnedByYou",                                            \
		"Your previous request to create the named bucket succeeded.")                     \
	X(CONFLICT, 409, "ConditionalRequestConflict",                                             \
		"The conditional request cannot succeed due to a conflicting operation.")          \
	X(ENTITY_TOO_LARGE, 400, "EntityTooLarge",                                                 \
		"Your proposed upload exceeds the maximum allowed size")                           \
	X(ENTITY_TOO_SMALL, 400, "EntityTooSmall",                                                 \
		"Your proposed upload is smaller than the minimum allowed size")                   \
	X(EXPIRED_TOKEN, 400, "ExpiredToken", "The provided token has expired.")                   \
	X(INCOMPLETE_BODY, 400, "IncompleteBody",                                                  \
		"The request body terminated unexpectedly")                                        \
	X(INTERNAL, 500, "InternalError",                                                          \
		"We encountered an internal error. Please try again.")                             \
	X(INVALID_ACCESS_KEY, 403, "InvalidAccessKeyId",                                           \
		"The AWS Access Key Id you provided does not exist in our records.")               \
	X(INVALID_ARGUMENT, 400, "InvalidArgument", "Invalid Argument")                            \
	X(INVALID_BUCKET_NAME, 400, "InvalidBucketName", "The specified bucket is not valid.")     \
	X(INVALID_CHECKSUM, 400, "InvalidRequest", "Value for x-amz-checksum header is invalid.")  \
	X(INVALID_CHUNK, 400, "InvalidRequest", "The aws-chunked body is malformed.")              \
	X(INVALID_DIGEST, 400, "InvalidDigest", "The Content-MD5 you specified is not valid.")     \
	X(INVALID_PART, 400, "InvalidPart",                                                        \
		"One or more of the specified parts could not be found. The part may not have "    \
		"been uploaded, or the specified entity tag may not match the part's entity tag.") \
	X(INVALID_PART_ORDER, 400, "InvalidPartOrder",                                             \
		"The list of parts was not in ascending order.")                                   \
	X(INVALID_PART_NUMBER, 416, "InvalidPartNumber",                                           \
		"The requested partnumber is not satisfiable")                                     \
	X(INVALID_RANGE, 416, "InvalidRange", "The requested range is not satisfiable")            \
	X(INVALID_REQUEST, 400, "InvalidRequest", "Invalid Request")                               \
	X(INVALID_TOKEN, 400, "InvalidToken",                                                      \
		"The provided token is malformed or otherwise invalid.")                           \
	X(INVALID_URI, 400, "InvalidURI", "Couldn't parse the specified URI.")                     \
	X(KEY_TOO_LONG, 400, "KeyTooLongError", "Your key is too long")                            \
	X(MALFORMED_XML, 400, "MalformedXML",                                                      \
		"The XML you provided was not well-formed or did not validate against our "        \
		"published schema")                                                                \
	X(METHOD_NOT_ALLOWED, 405, "MethodNotAllowed",                                             \
		"The specified method is not allowed against this resource.")                      \
	X(MISSING_ACL, 403, "AccessDenied",                                                        \
		"Access Denied: the bucket requires another x-amz-acl")                            \
	X(MISSING_LENGTH, 411, "MissingContentLength",                                             \
		"You must provide the Content-Length HTTP header.")                                \
	X(MISSING_SHA256, 400, "InvalidRequest",                                                   \
		"Missing required header for this request: x-amz-content-sha256")                  \
	X(NOT_IMPLEMENTED, 501, "NotImplemented",                                                  \
		"A header or query you provided implies functionality that is not implemented.")   \
	X(NOT_MODIFIED, 304, "NotModified", "Not Modified")                                        \
	X(NO_SUCH_BUCKET, 404, "NoSuchBucket", "The specified bucket does not exist")              \
	X(NO_SUCH_KEY, 404, "NoSuchKey", "The specified key does not exist.")                      \
	X(NO_SUCH_UPLOAD, 404, "NoSuchUpload",                                                     \
		"The specified multipart upload does not exist. The upload ID may be invalid, or " \
		"the upload may have been aborted or completed.")                                  \
	X(PRECONDITION_FAILED, 412, "PreconditionFailed",                                          \
		"At least one of the pre-conditions you specified did not hold")                   \
	X(REQUEST_EXPIRED, 403, "AccessDenied", "Request has expired")                             \
	X(SHA256_MISMATCH, 400, "XAmzContentSHA256Mismatch",                                       \
		"The provided 'x-amz-content-sha256' header does not match what was computed.")    \
	X(SIGNATURE_MISMATCH, 403, "SignatureDoesNotMatch",                                        \
		"The request signature we calculated does not match the signature you provided.")  \
	X(TIME_TOO_SKEWED, 403, "RequestTimeTooSkewed",                                            \
		"The difference between the request time and the current time is too large.")

enum s3d_error {
#define ERROR_ENUM(name, status, code, message) ERROR_##name,
	S3D_ERRORS(ERROR_ENUM)
#undef ERROR_ENUM
};

struct error_text {
	int status;
	const char *code;
	const char *message;
};

const struct error_text *error_text(enum s3d_error error);
/* From -errno of the store: ENOENT, EEXIST, else InternalError. */
enum s3d_error error_from_errno(int r);
