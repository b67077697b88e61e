"""S-2, S-3, S-5: what is kept is encrypted, versioned and private; the API asks everybody who they are."""

from __future__ import annotations

import re

import pytest

from tests.infrastructure.stack import Resource, text, transformed

STACK = transformed()
ROUTES = STACK.of_type("AWS::ApiGatewayV2::Route")


def bucket() -> Resource:
    (found,) = STACK.of_type("AWS::S3::Bucket")
    return found


def table() -> Resource:
    (found,) = STACK.of_type("AWS::DynamoDB::Table")
    return found


def test_the_bucket_is_private_encrypted_versioned_and_tells_of_new_objects() -> None:
    properties = bucket().properties
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert properties["NotificationConfiguration"]["EventBridgeConfiguration"] == {"EventBridgeEnabled": True}


def test_the_bucket_refuses_plain_http_from_everywhere_but_loopback() -> None:
    (policy,) = STACK.of_type("AWS::S3::BucketPolicy")
    (statement,) = policy.properties["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert text(statement["Resource"]) == "[${DataBucket.Arn}, ${DataBucket.Arn}/*]"
    # NotIpAddress is true when a request has no source address: nothing but a loopback address is exempt.
    assert statement["Condition"] == {
        "Bool": {"aws:SecureTransport": "false"},
        "NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"},
    }


@pytest.mark.parametrize("stateful", ["DataBucket", "LedgerTable"])
def test_data_survives_the_stack(stateful: str) -> None:
    whole = STACK.resources[stateful].whole
    assert (whole["DeletionPolicy"], whole["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_ledger_can_be_restored_streams_new_images_and_costs_nothing_idle() -> None:
    properties = table().properties
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_the_ledgers_keys_and_indexes_are_the_ones_that_the_adapter_uses() -> None:
    def keys(schema: list[dict[str, str]]) -> tuple[str, ...]:
        return tuple(part["AttributeName"] for part in schema)

    properties = table().properties
    assert keys(properties["KeySchema"]) == ("pk", "sk")
    indexes = {i["IndexName"]: (keys(i["KeySchema"]), i["Projection"]) for i in properties["GlobalSecondaryIndexes"]}
    assert indexes == {
        "active": (("active_shard", "next_check_at"), {"ProjectionType": "ALL"}),
        "job": (("job_name",), {"ProjectionType": "KEYS_ONLY"}),
        "runs": (
            ("list_shard", "created_at"),
            {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["name", "status", "stage", "updated_at", "run_id"]},
        ),
    }


def test_the_api_has_exactly_its_routes_and_all_ask_for_a_signature() -> None:
    routes = {r.properties["RouteKey"]: r.properties["Target"]["Fn::Sub"].removeprefix("integrations/") for r in ROUTES}
    assert routes == {
        "POST /runs": "${SubmitRunIntegration}",
        "POST /runs/{run_id}/cancel": "${ChangeRunIntegration}",
        "POST /runs/{run_id}/retry": "${ChangeRunIntegration}",
        "POST /redrive": "${RedriveMessagesIntegration}",
        "POST /scores": "${EnqueueScoresIntegration}",
        "GET /runs": "${ShowStatusIntegration}",
        "GET /runs/{run_id}": "${ShowStatusIntegration}",
        "GET /runs/{run_id}/history": "${ShowStatusIntegration}",
        "GET /runs/{run_id}/logs": "${ShowStatusIntegration}",
        "GET /scores/{request_id}": "${ShowStatusIntegration}",
    }
    assert {r.properties["AuthorizationType"] for r in ROUTES} == {"AWS_IAM"}


@pytest.mark.parametrize("route", [r.id for r in ROUTES])
def test_a_route_may_call_its_function_and_only_that_route_may(route: str) -> None:
    # GIVEN a route and the function behind it
    properties = STACK.resources[route].properties
    integration = STACK.resources[re.findall(r"\$\{(\w+)\}", properties["Target"]["Fn::Sub"])[0]]
    function = integration.properties["IntegrationUri"]["Fn::GetAtt"][0]
    # WHEN its permission is read
    permission = STACK.resources[f"{route}Permission"].properties
    # THEN it names this function, this method and this path; path parameters become asterisks.
    method, path = properties["RouteKey"].split(" ")
    assert permission["FunctionName"] == {"Ref": function}
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert text(permission["SourceArn"]).endswith(f"${{Api}}/$default/{method}{re.sub(r'{[^}]+}', '*', path)}")
    assert integration.properties["PayloadFormatVersion"] == "2.0"


def test_the_api_is_throttled_and_logs_who_called_but_no_content() -> None:
    (stage,) = STACK.of_type("AWS::ApiGatewayV2::Stage")
    settings = stage.properties["DefaultRouteSettings"]
    assert 0 < settings["ThrottlingRateLimit"] <= 100
    assert 0 < settings["ThrottlingBurstLimit"] <= 200
    log = stage.properties["AccessLogSettings"]
    assert text(log["DestinationArn"]) == "${ApiLogs.Arn}"
    assert "$context.identity.caller" in log["Format"]
    assert not re.search(r"body|authorization|queryString", log["Format"], re.IGNORECASE)


def test_every_log_group_forgets() -> None:
    groups = STACK.of_type("AWS::Logs::LogGroup")
    assert len(groups) == 14
    assert {text(g.properties["RetentionInDays"]) for g in groups} == {"${LogRetentionDays}"}
