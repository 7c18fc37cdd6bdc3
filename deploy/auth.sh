#!/bin/sh
# What the container of MLflow starts: the settings of its users from the environment, then the server.
set -eu
database="postgresql+psycopg://mlflow:${POSTGRES_PASSWORD}@database:5432"
umask 077
cat > auth.ini <<INI
[mlflow]
default_permission = NO_PERMISSIONS
admin_username = admin
database_uri = ${database}/mlflow_auth
auth_cache_ttl_seconds = 30
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
export MLFLOW_AUTH_CONFIG_PATH="$PWD/auth.ini" MLFLOW_BACKEND_STORE_URI="${database}/mlflow"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --allowed-hosts "${ALLOWED_HOSTS}" \
  --artifacts-destination file:///artifacts --serve-artifacts --workers 4
