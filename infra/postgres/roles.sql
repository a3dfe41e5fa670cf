-- Roles and databases; run by the superuser at every start, harmless when repeated.
-- Passwords: PW_MIGRATOR, PW_COMMAND, PW_RELAY, PW_PROJECTOR, PW_QUERY in the environment, or the psql
-- variables migrator, command, relay, projector, query.
--
-- What each may do is granted in the migrations; nobody but the migrator owns anything.
\getenv migrator PW_MIGRATOR
\getenv command PW_COMMAND
\getenv relay PW_RELAY
\getenv projector PW_PROJECTOR
\getenv query PW_QUERY

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['daybook_migrator', 'daybook_command', 'daybook_relay', 'daybook_projector',
                  'daybook_query']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE daybook_migrator PASSWORD :'migrator';
ALTER ROLE daybook_command PASSWORD :'command';
ALTER ROLE daybook_relay REPLICATION PASSWORD :'relay';
ALTER ROLE daybook_projector PASSWORD :'projector';
ALTER ROLE daybook_query PASSWORD :'query';

SELECT format('CREATE DATABASE %I OWNER daybook_migrator ENCODING ''UTF8'' LOCALE ''C.UTF-8'' '
              'TEMPLATE template0', name)
FROM unnest(ARRAY['daybook_write', 'daybook_read']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name)
\gexec
REVOKE CONNECT ON DATABASE daybook_write, daybook_read FROM PUBLIC;
GRANT CONNECT ON DATABASE daybook_write TO daybook_command, daybook_relay, daybook_query;
GRANT CONNECT ON DATABASE daybook_read TO daybook_projector, daybook_query;
