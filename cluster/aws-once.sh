#!/usr/bin/env bash
# Makes the roles of the head and of the workers, and nothing else; run it once per AWS account.
#
#   bash cluster/aws-once.sh BUCKET      (needs the AWS CLI and the right to make IAM roles)
#
# The role pareidolia-head may start and terminate instances, and read and write BUCKET; the role pareidolia-node may only
# read and write BUCKET. Run again with another bucket, the script replaces the bucket. No secret is written anywhere: nodes
# get their credentials from these roles.
set -euo pipefail

bucket=${1:?usage: aws-once.sh BUCKET}
case $bucket in
  *[!a-z0-9.-]*) echo "render: $bucket: a bucket's name, without s3:// and without a path" >&2; exit 2 ;;
esac
command -v aws >/dev/null || { echo "render: the AWS CLI is not installed: https://aws.amazon.com/cli" >&2; exit 2; }
account=$(aws sts get-caller-identity --query Account --output text)

trust='{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}'

store='{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
    "Resource": "arn:aws:s3:::'$bucket'"},
  {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts"], "Resource": "arn:aws:s3:::'$bucket'/*"}'

# Rights of Ray's autoscaler on the head; the workers that it starts get the role pareidolia-node.
machines='{"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:TerminateInstances", "ec2:StopInstances",
    "ec2:StartInstances", "ec2:CreateTags", "ec2:DeleteTags", "ec2:Describe*"], "Resource": "*"},
  {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::'$account':role/pareidolia-node"},
  {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "arn:aws:ssm:*::parameter/aws/service/*"}'

# make_role NAME STATEMENTS
make_role() {
  aws iam get-role --role-name "$1" >/dev/null 2>&1 ||
    aws iam create-role --role-name "$1" --assume-role-policy-document "$trust" >/dev/null
  aws iam put-role-policy --role-name "$1" --policy-name "$1" \
    --policy-document '{"Version": "2012-10-17", "Statement": ['"$2"']}'
  if ! aws iam get-instance-profile --instance-profile-name "$1" >/dev/null 2>&1; then
    aws iam create-instance-profile --instance-profile-name "$1" >/dev/null
    aws iam add-role-to-instance-profile --instance-profile-name "$1" --role-name "$1"
  fi
}

make_role pareidolia-node "$store"
make_role pareidolia-head "$store, $machines"
# Spot instances need a role of Amazon's own, which exists if the account has used them before.
aws iam create-service-linked-role --aws-service-name spot.amazonaws.com >/dev/null 2>&1 || true
echo "roles pareidolia-head and pareidolia-node may use s3://$bucket; wait 15 s before the first make cluster-up"
