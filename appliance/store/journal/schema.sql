-- The journal's schema 5. It stays as it is: what later schemas add, steps.py has. Times are REAL:
-- seconds since 1970, UTC.
-- No row per slice: the spool is the truth for slices. A series is (study_uid, series_uid).

CREATE TABLE associations (
  id TEXT PRIMARY KEY,                  -- ours, random
  calling_ae TEXT NOT NULL,
  called_ae TEXT NOT NULL,
  host TEXT NOT NULL,                   -- address of the sender
  pid INTEGER NOT NULL,                 -- of the process that serves it
  pid_started INTEGER NOT NULL,         -- clock ticks since boot: tells a reused pid apart
  boot TEXT NOT NULL,                   -- in which boot it was opened; '' where nobody noted it
  opened REAL NOT NULL,
  ended REAL,                           -- null while it is open
  outcome TEXT CHECK (outcome IN ('released', 'aborted', 'lost', 'refused'))
) STRICT;
CREATE INDEX associations_open ON associations (opened) WHERE ended IS NULL;

CREATE TABLE series (
  study_uid TEXT NOT NULL,
  series_uid TEXT NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('open', 'complete', 'analysed', 'set_aside', 'refused', 'failed')),
  calling_ae TEXT NOT NULL,             -- of the latest sender; '' where none is known
  first_at REAL NOT NULL,               -- when its first and its latest instance came
  last_at REAL NOT NULL,
  instances INTEGER,                    -- how many the state is about; null: not judged yet
  attempts INTEGER NOT NULL DEFAULT 0,  -- that failed, since something new came (work/blame.py)
  attempt_boot TEXT,                    -- in which boot the last of them was counted
  updated REAL NOT NULL,                -- when a sender or `work` last changed this row
  priority TEXT NOT NULL DEFAULT 'routine' CHECK (priority IN ('routine', 'stat')),
  pseudonym TEXT,                       -- of its study, once something was said of it
  suspected INTEGER NOT NULL DEFAULT 0, -- how often the machine died while it was in hand
  suspect_boot TEXT,                    -- in which boot that was last
  suspect_step TEXT,                    -- at which step of `work` that was last
  failed_with TEXT,                     -- what it failed with: digests of the open bundles, then
                                        -- the version of the appliance
  PRIMARY KEY (study_uid, series_uid)
) STRICT;
CREATE INDEX series_by_state ON series (state, last_at);
CREATE INDEX series_by_pseudonym ON series (pseudonym);

CREATE TABLE arrivals (                 -- what one association brought of one series
  association TEXT NOT NULL REFERENCES associations (id) ON DELETE CASCADE,
  study_uid TEXT NOT NULL,
  series_uid TEXT NOT NULL,
  first_at REAL NOT NULL,
  last_at REAL NOT NULL,
  instances INTEGER NOT NULL,           -- newly stored, so far
  PRIMARY KEY (association, study_uid, series_uid)
) STRICT;
CREATE INDEX arrivals_by_series ON arrivals (study_uid, series_uid);

CREATE TABLE reports (
  report_id TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  series_uid TEXT NOT NULL,
  bundle_digest TEXT NOT NULL,          -- '' where no bundle accepted
  revision INTEGER NOT NULL,
  supersedes TEXT,                      -- a report_id
  status TEXT NOT NULL,
  stage TEXT NOT NULL CHECK (stage IN ('preliminary', 'final')),
  input_digest TEXT NOT NULL,
  json TEXT NOT NULL,                   -- the report as it was sealed
  created REAL NOT NULL,
  PRIMARY KEY (report_id, stage)
) STRICT;
CREATE INDEX reports_by_series ON reports (study_uid, series_uid, bundle_digest, revision);

CREATE TABLE owed (                     -- the outbox: what is owed to each destination
  id INTEGER PRIMARY KEY,               -- in order: a destination gets the lowest first
  destination TEXT NOT NULL,            -- its name in results/destinations.py
  key TEXT NOT NULL,                    -- unique within the destination
  seq INTEGER UNIQUE,                   -- number of the device; null where its body draws none
  study_uid TEXT,                       -- the series whose deletion waits; null: nobody's
  series_uid TEXT,
  body BLOB,                            -- what is sent, as the destination itself made it; or what
                                        -- orders it, until the file is there and beside it
  file TEXT,                            -- a file with what is sent, relative to the state folder
  created REAL NOT NULL,
  state TEXT NOT NULL                   -- store/delivery.py
    CHECK (state IN ('waiting', 'delivered', 'committed', 'dead', 'dropped')),
  delivered_at REAL,
  attempts INTEGER NOT NULL DEFAULT 0,  -- that were refused
  last_error TEXT,
  UNIQUE (destination, key),
  CHECK (body IS NOT NULL OR file IS NOT NULL),
  CHECK ((study_uid IS NULL) = (series_uid IS NULL))
) STRICT;
CREATE INDEX owed_in_order ON owed (destination, state, id);
CREATE INDEX owed_by_state ON owed (state, id);
CREATE INDEX owed_uncomposed ON owed (destination, id) WHERE state = 'waiting' AND file IS NULL;
CREATE INDEX owed_of_series ON owed (study_uid, series_uid, state);

CREATE TABLE told (                     -- what a composed object says that may change later: once
                                        -- it is told, it is told so for ever
  report_id TEXT NOT NULL,
  stage TEXT NOT NULL,                  -- results/pacs.py: Said
  edition INTEGER NOT NULL,
  told TEXT NOT NULL,                   -- as who composes wrote it
  at REAL NOT NULL,
  PRIMARY KEY (report_id, stage, edition)
) STRICT;
CREATE INDEX told_by_age ON told (at);

CREATE TABLE commitments (              -- what archives were asked whether they keep it (PS3.4 J)
  transaction_uid TEXT PRIMARY KEY,     -- ours, random: who knows it was asked
  destination TEXT NOT NULL,            -- whose answer counts, and nobody else's
  relayed INTEGER                       -- for whom it was asked; null: for us
    REFERENCES relayed (id) ON DELETE CASCADE,
  refs TEXT,                            -- JSON: what it names (store/commitment.py: Reference);
                                        -- null: what is relayed
  keys TEXT NOT NULL,                   -- JSON: the keys of their rows in `owed`, in that order
  asked REAL NOT NULL,
  answered REAL,                        -- null while an answer counts
  CHECK ((refs IS NULL) = (relayed IS NOT NULL))
) STRICT;
CREATE INDEX commitments_by_age ON commitments (asked);

CREATE TABLE uncommitted (              -- what an archive took and was asked to promise
  destination TEXT NOT NULL,
  key TEXT NOT NULL,                    -- of its row in `owed`
  since REAL NOT NULL,                  -- when it was first asked about
  times INTEGER NOT NULL,               -- how often it was
  due REAL,                             -- when it may be again; null: never
  said TEXT,                            -- what the archive said last
  PRIMARY KEY (destination, key)
) STRICT;

CREATE TABLE relayed (                  -- what a sender asked us, for the archive to answer
  id INTEGER PRIMARY KEY,
  transaction_uid TEXT NOT NULL,        -- the sender's
  calling_ae TEXT NOT NULL,
  host TEXT NOT NULL,                   -- address of the sender
  answer_to TEXT NOT NULL,              -- AE@HOST:PORT
  refs TEXT NOT NULL,                   -- JSON, as above
  came REAL NOT NULL,
  due REAL NOT NULL,                    -- when its next step may be tried
  failed TEXT,                          -- JSON: what is not kept, once that is known
  told REAL,                            -- when the sender took the answer
  UNIQUE (calling_ae, host, transaction_uid)
) STRICT;

CREATE TABLE feedback (                 -- what readers said of reports (results/feedback.py):
                                        -- append-only, and it outlives the series
  id INTEGER PRIMARY KEY,               -- in order: of one finding the last counts
  uid TEXT NOT NULL UNIQUE,             -- random; its event_id on MQTT
  at REAL NOT NULL,
  study TEXT NOT NULL,                  -- the pseudonym
  series TEXT,                          -- the published name; null: not known any more
  report_id TEXT NOT NULL,
  bundle TEXT,                          -- its digest
  verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'reject', 'missed', 'undo')),
  finding INTEGER,                      -- null of what was missed
  center_lps_mm TEXT,                   -- JSON, of what was missed alone, as is size_mm:
                                        -- a list, or of a radiograph PlacePx
  size_mm REAL,
  undoes TEXT,                          -- the uid of the row that is taken back
  role TEXT NOT NULL,                   -- of the reader
  reader TEXT NOT NULL,                 -- their keyed id
  score REAL,                           -- of the place
  scores TEXT,                          -- JSON (ReportScores), of the first row about a report
  CHECK ((verdict = 'undo') = (undoes IS NOT NULL)),
  CHECK ((verdict = 'missed') = (center_lps_mm IS NOT NULL AND size_mm IS NOT NULL))
) STRICT;
CREATE INDEX feedback_by_report ON feedback (report_id, id);
CREATE TRIGGER feedback_never_changes BEFORE UPDATE ON feedback
  BEGIN SELECT RAISE(ABORT, 'feedback rows never change'); END;
CREATE TRIGGER feedback_never_shrinks BEFORE DELETE ON feedback
  BEGIN SELECT RAISE(ABORT, 'feedback rows are never deleted'); END;

CREATE TABLE comments (                 -- words of readers: deleted with their series, never sent
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  study_uid TEXT NOT NULL,
  series_uid TEXT NOT NULL,
  report_id TEXT NOT NULL,
  finding INTEGER,                      -- null: of the whole report
  role TEXT NOT NULL,
  reader TEXT NOT NULL,
  text TEXT NOT NULL
) STRICT;
CREATE INDEX comments_of_series ON comments (study_uid, series_uid);
CREATE INDEX comments_by_report ON comments (report_id);

CREATE TABLE timings (                  -- how long the report of a deleted series took: no identity
  at REAL NOT NULL,                     -- when it was first committed
  scanner TEXT NOT NULL,                -- AE title of the sender; '' where none is known
  status TEXT NOT NULL,                 -- of the report
  first_s REAL NOT NULL,                -- last slice to its first committed form
  first_told_s REAL,                    -- last slice to the broker's PUBACK for that
  quiet_s REAL,                         -- of the way to the final form: waiting whether more comes
  final_s REAL NOT NULL,                -- last slice to its final form
  final_told_s REAL                     -- last slice to the broker's PUBACK for that
) STRICT;
CREATE INDEX timings_by_age ON timings (at);

CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL                -- the last that was drawn
) STRICT;
INSERT INTO counters (name, value) VALUES ('seq', 0), ('audit', 0);

CREATE TABLE events (                   -- facts that a person may ask for, such as refusals
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  kind TEXT NOT NULL,                   -- store/events.py has each, with its fields
  subject TEXT NOT NULL,
  detail TEXT NOT NULL                  -- JSON
) STRICT;
CREATE INDEX events_by_kind ON events (kind, id);

CREATE TABLE audit (                    -- append-only, hash-chained
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  detail TEXT NOT NULL,                 -- JSON
  previous TEXT NOT NULL,               -- hash of the row before
  hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit rows never change'); END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END;
