"""S3 addresses: nothing that could mean another object passes."""

from __future__ import annotations

import pytest

from ekiden.contracts.s3uri import S3Uri

GOOD = [
    ("s3://bucket", "bucket", ""),
    ("s3://bucket/", "bucket", ""),
    ("s3://bucket/a/b/", "bucket", "a/b/"),
    ("s3://my.bucket-1/graphs/Movie Lens (1)/edges.csv", "my.bucket-1", "graphs/Movie Lens (1)/edges.csv"),
    ("s3://abc/ü/ñ/日本.csv", "abc", "ü/ñ/日本.csv"),
    ("s3://abc/a..b/...", "abc", "a..b/..."),
    ("s3://abc/a:b@c,d;e=f&g+h!'()~$", "abc", "a:b@c,d;e=f&g+h!'()~$"),
    (f"s3://{'b' * 63}/{'k' * 1024}", "b" * 63, "k" * 1024),
]

BAD = [
    # another scheme, or none
    "",
    "bucket/key",
    "/bucket/key",
    "S3://bucket/key",
    " s3://bucket/key",
    "s3:/bucket/key",
    "s3:bucket/key",
    "s3a://bucket/key",
    "s3n://bucket/key",
    "http://bucket/key",
    "https://bucket.s3.amazonaws.com/key",
    "https://s3.amazonaws.com/bucket/key",
    "file:///etc/passwd",
    "ftp://bucket/key",
    "gs://bucket/key",
    "arn:aws:s3:::bucket/key",
    # no bucket, or one that cannot be
    "s3://",
    "s3:///key",
    "s3://ab/key",
    f"s3://{'b' * 64}/key",
    "s3://Bucket/key",
    "s3://my_bucket/key",
    "s3://-bucket/key",
    "s3://bucket-/key",
    "s3://.bucket/key",
    "s3://bucket./key",
    "s3://my..bucket/key",
    "s3://bucket\n/key",
    "s3://bucket /key",
    "s3://buck\x00et/key",
    "s3://bücket/key",
    "s3://192.168.0.1/key",
    "s3://169.254.169.254/latest/meta-data/",
    "s3://user@bucket/key",
    "s3://user:secret@bucket/key",
    "s3://bucket:8080/key",
    "s3://bucket%2fother/key",
    "s3://bucket?x=/key",
    "s3://bucket#x/key",
    "s3://*/key",
    # access points and their aliases
    "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/mine/key",
    "s3://arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/mine/key",
    "s3://mine-1a2b3c4d-s3alias/key",
    "s3://mine-1a2b3c4d--ol-s3/key",
    "s3://mine.mrap/key",
    "s3://mine--use1-az4--x-s3/key",
    "s3://xn--bucket/key",
    "s3://sthree-bucket/key",
    # keys that mean another place
    "s3://bucket/../other/key",
    "s3://bucket/..",
    "s3://bucket/a/../../b",
    "s3://bucket/a/..",
    "s3://bucket/.",
    "s3://bucket/./a",
    "s3://bucket//a",
    "s3://bucket/a//b",
    "s3://bucket/a//",
    "s3://bucket/a\\..\\b",
    "s3://bucket/%2e%2e/a",
    "s3://bucket/%2E%2E/a",
    "s3://bucket/a%2fb",
    "s3://bucket/a%5cb",
    "s3://bucket/%252e%252e/a",
    "s3://bucket/a%00.csv",
    "s3://bucket/a%20b",
    # wildcards and queries
    "s3://bucket/*",
    "s3://bucket/a?versionId=1",
    "s3://bucket/a#fragment",
    # what one does not see
    "s3://bucket/a\nb",
    "s3://bucket/a\r\nb",
    "s3://bucket/a\tb",
    "s3://bucket/a\x00b",
    "s3://bucket/a\x7fb",
    "s3://bucket/a\u200bb",
    "s3://bucket/a\u202eb",
    "s3://bucket/a\u2028b",
    "s3://bucket/a\ufeff",
    "s3://bucket/a\ud800",
    "s3://bucket/a ",
    "s3://bucket/ a",
    "s3://bucket/a /b",
    "s3://bucket/ /b",
    # too long
    f"s3://bucket/{'k' * 1025}",
    f"s3://bucket/{'ü' * 513}",
]


@pytest.mark.parametrize(("text", "bucket", "key"), GOOD)
def test_a_good_address_is_taken_apart_and_put_together_again(text: str, bucket: str, key: str) -> None:
    uri = S3Uri.parse(text)
    assert (uri.bucket, uri.key) == (bucket, key)
    assert S3Uri.parse(str(uri)) == uri


def test_the_corpus_of_bad_addresses_is_large_and_without_repeats() -> None:
    assert len(set(BAD)) == len(BAD) >= 60


@pytest.mark.parametrize("text", BAD, ids=ascii)
def test_a_bad_address_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an s3:// URI|not a bucket name|in its key|1,024 bytes") as error:
        S3Uri.parse(text)
    assert len(str(error.value)) <= 200 + 80
    assert str(error.value).isprintable()


def test_a_name_is_appended_below() -> None:
    assert str(S3Uri.parse("s3://bucket/a/") / "b.csv") == "s3://bucket/a/b.csv"
    assert str(S3Uri.parse("s3://bucket") / "b.csv") == "s3://bucket/b.csv"
