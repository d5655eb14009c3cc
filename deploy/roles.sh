#!/bin/sh
# Run once by the database's image: the service's role, which owns nothing. Migrations grant it what it needs.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --set password="$WALLET_PASSWORD" <<'SQL'
CREATE ROLE wallet LOGIN PASSWORD :'password';
SQL
