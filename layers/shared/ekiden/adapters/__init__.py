"""The ports on AWS. The only place for boto3; vendor errors are translated here and go no further."""
