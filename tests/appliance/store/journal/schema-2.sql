-- The journal's schema, version 2 (PRAGMA user_version). Times are REAL: seconds since 1970, UTC.
-- No row per slice: the spool is the truth for slices.

CREATE TABLE associations (
  id TEXT PRIMARY KEY,
  calling_ae TEXT NOT NULL,
  called_ae TEXT NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  pid_started INTEGER NOT NULL,         -- clock ticks since boot: tells a reused pid apart
  opened REAL NOT NULL,
  ended REAL,
  outcome TEXT CHECK (outcome IN ('released', 'aborted', 'lost', 'refused'))
) STRICT;
CREATE INDEX associations_open ON associations (opened) WHERE ended IS NULL;

CREATE TABLE series (
  series_uid TEXT PRIMARY KEY,
  study_uid TEXT NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('open', 'complete', 'analysed', 'set_aside', 'refused', 'failed')),
  calling_ae TEXT NOT NULL,
  first_at REAL NOT NULL,
  last_at REAL NOT NULL,
  instances INTEGER,                    -- how many the state is about; null: not judged yet
  attempts INTEGER NOT NULL DEFAULT 0,
  updated REAL NOT NULL,
  priority TEXT NOT NULL DEFAULT 'routine' CHECK (priority IN ('routine', 'stat'))
) STRICT;
CREATE INDEX series_by_state ON series (state, last_at);
CREATE INDEX series_by_study ON series (study_uid);

CREATE TABLE arrivals (                 -- one row per association and series
  association TEXT NOT NULL REFERENCES associations (id) ON DELETE CASCADE,
  series_uid TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  first_at REAL NOT NULL,
  last_at REAL NOT NULL,
  instances INTEGER NOT NULL,
  PRIMARY KEY (association, series_uid)
) STRICT;
CREATE INDEX arrivals_by_series ON arrivals (series_uid);

CREATE TABLE reports (
  report_id TEXT NOT NULL,
  series_uid TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  bundle_digest TEXT NOT NULL,          -- '' where no bundle accepted
  revision INTEGER NOT NULL,
  supersedes TEXT,
  status TEXT NOT NULL,
  stage TEXT NOT NULL CHECK (stage IN ('preliminary', 'final')),
  input_digest TEXT NOT NULL,
  json TEXT NOT NULL,
  created REAL NOT NULL,
  PRIMARY KEY (report_id, stage)
) STRICT;
CREATE INDEX reports_by_series ON reports (series_uid, bundle_digest, revision);
CREATE INDEX reports_by_study ON reports (study_uid);

CREATE TABLE messages (                 -- the outbox
  seq INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL UNIQUE,
  series_uid TEXT,                      -- whose deletion has to wait for it; null: nobody's
  topic TEXT NOT NULL,
  qos INTEGER NOT NULL CHECK (qos IN (0, 1)),
  retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
  payload TEXT NOT NULL,
  created REAL NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting'
    CHECK (state IN ('waiting', 'delivered', 'dead', 'dropped')),
  delivered_at REAL,
  attempts INTEGER NOT NULL DEFAULT 0,
  last_error TEXT
) STRICT;
CREATE INDEX messages_waiting ON messages (seq) WHERE state = 'waiting';
CREATE INDEX messages_by_series ON messages (series_uid, state);

CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('seq', 0), ('audit', 0);

CREATE TABLE events (                   -- facts that a person may ask for, such as refusals
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_kind ON events (kind, at);

CREATE TABLE audit (                    -- append-only, hash-chained
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  detail TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit rows never change'); END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END;
