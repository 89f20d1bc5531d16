"""S3's errors, as its API Reference lists them (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""

from agent.standin.errors import ApiError


class InvalidRequestError(ApiError):
    """The request contradicts itself or leaves something out."""

    code = "InvalidRequest"
    status = 400


class InvalidArgumentError(ApiError):
    """A header or parameter has a value that S3 does not know."""

    code = "InvalidArgument"
    status = 400


class MalformedXmlError(ApiError):
    """The XML is not well formed or not what the operation takes."""

    code = "MalformedXML"
    status = 400

    def __init__(self) -> None:
        super().__init__("The XML you provided was not well-formed or did not validate against our published schema")


class BadDigestError(ApiError):
    """What arrived is not what the checksum says: send it again."""

    code = "BadDigest"
    status = 400


class InvalidDigestError(ApiError):
    """The Content-MD5 is not the base64 of 16 bytes."""

    code = "InvalidDigest"
    status = 400

    def __init__(self) -> None:
        super().__init__("The Content-MD5 you specified was invalid.")


class PayloadMismatchError(ApiError):
    """The body is not the one that was signed."""

    code = "XAmzContentSHA256Mismatch"
    status = 400

    def __init__(self) -> None:
        super().__init__("The provided 'x-amz-content-sha256' header does not match what was computed.")


class IncompleteBodyError(ApiError):
    """The body is shorter or longer than announced."""

    code = "IncompleteBody"
    status = 400

    def __init__(self) -> None:
        super().__init__("The request body terminated unexpectedly")


class NoSuchBucketError(ApiError):
    """There is no such bucket."""

    code = "NoSuchBucket"
    status = 404

    def __init__(self, name: str) -> None:
        super().__init__("The specified bucket does not exist", details={"BucketName": name})


class NoSuchKeyError(ApiError):
    """There is no such object."""

    code = "NoSuchKey"
    status = 404

    def __init__(self, key: str) -> None:
        super().__init__("The specified key does not exist.", details={"Key": key})


class NoSuchUploadError(ApiError):
    """The multipart upload was never begun, or is aborted or completed."""

    code = "NoSuchUpload"
    status = 404

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            "The specified multipart upload does not exist. The upload ID may be invalid, "
            "or the upload may have been aborted or completed.",
            details={"UploadId": upload_id},
        )


class PreconditionFailedError(ApiError):
    """If-Match or If-None-Match does not hold."""

    code = "PreconditionFailed"
    status = 412

    def __init__(self, condition: str) -> None:
        super().__init__(
            "At least one of the pre-conditions you specified did not hold", details={"Condition": condition}
        )


class AccessDeniedError(ApiError):
    """The caller may not do this."""

    code = "AccessDenied"
    status = 403

    def __init__(self, message: str = "Access Denied") -> None:
        super().__init__(message)


class NotImplementedByS3Error(ApiError):
    """A part of S3 that the stand-in does not have, said aloud instead of ignored."""

    code = "NotImplemented"
    status = 501

    def __init__(self, what: str) -> None:
        super().__init__(f"A header or parameter you provided implies functionality that is not implemented: {what}")
