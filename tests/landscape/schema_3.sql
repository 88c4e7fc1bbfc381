PRAGMA application_id = 1953719152;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE higher_saddle(
    id INTEGER PRIMARY KEY,
    energy REAL NOT NULL,
    grad_rms REAL,
    idx INTEGER,              -- negative Hessian eigenvalues; NULL where not computed
    log_det REAL,             -- sum of ln|mu| over the non-zero eigenvalues; NULL where not computed
    n_zero INTEGER,           -- zero eigenvalues; NULL where not computed
    n_flat INTEGER,           -- those among them that no declared symmetry explains; NULL where not computed
    lowest REAL,              -- lowest eigenvalue; NULL where not computed
    log_degeneracy REAL NOT NULL,
    n_evaluations INTEGER NOT NULL,
    hits INTEGER NOT NULL,    -- searches that ended in it
    run INTEGER,              -- where it was first found: the run (and so the seed),
    task TEXT,                -- the task of that run,
    start INTEGER,            -- and the row of that task
    
    x BLOB NOT NULL,          -- coordinates, little-endian float64 (last: scans of the rest skip it)
    eigenvalues BLOB          -- the spectrum, ascending, where it was computed densely
);
INSERT INTO "higher_saddle" VALUES(0,18.0,1.0e-09,2,NULL,NULL,NULL,NULL,0.0,0,1,1,NULL,0,X'00000000000008400000000000000840',NULL);
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "meta" VALUES('dtype','float64');
INSERT INTO "meta" VALUES('fingerprint','3368b58ac846633955906d83aa442b69b938953697301f698f5025def64a4b06');
INSERT INTO "meta" VALUES('kind','Bowl');
INSERT INTO "meta" VALUES('matching','{"energy_tol": 1e-06, "distance_tol": 0.1}');
INSERT INTO "meta" VALUES('ndim',2);
INSERT INTO "meta" VALUES('probe',X'7A3A951A2745E53F6E2E92B991D0EEBFC91E09FF719EF7BFBD8773DE60B8D4BF68F3DE02F58EE03F03A32FA64DD2F93F');
INSERT INTO "meta" VALUES('probe_energy',X'6D91E576D210F63FF69A443EF9590240ADD1FE3AD70E0740');
INSERT INTO "meta" VALUES('settings','{"ndim": "2", "l2": "0.01", "data.targets": "int64 [3] #26c3886d981d"}');
CREATE TABLE minimum(
    id INTEGER PRIMARY KEY,
    energy REAL NOT NULL,
    grad_rms REAL,
    idx INTEGER,              -- negative Hessian eigenvalues; NULL where not computed
    log_det REAL,             -- sum of ln|mu| over the non-zero eigenvalues; NULL where not computed
    n_zero INTEGER,           -- zero eigenvalues; NULL where not computed
    n_flat INTEGER,           -- those among them that no declared symmetry explains; NULL where not computed
    lowest REAL,              -- lowest eigenvalue; NULL where not computed
    log_degeneracy REAL NOT NULL,
    n_evaluations INTEGER NOT NULL,
    hits INTEGER NOT NULL,    -- searches that ended in it
    run INTEGER,              -- where it was first found: the run (and so the seed),
    task TEXT,                -- the task of that run,
    start INTEGER,            -- and the row of that task
    
    family INTEGER REFERENCES minimum(id), -- the minimum that stands for it, mostly itself; NULL if unknown

    x BLOB NOT NULL,          -- coordinates, little-endian float64 (last: scans of the rest skip it)
    eigenvalues BLOB          -- the spectrum, ascending, where it was computed densely
);
INSERT INTO "minimum" VALUES(0,0.0,1.0e-09,0,1.0,0,0,1.0,0.0,0,1,1,'q',0,0,X'00000000000000000000000000000000',X'000000000000F03F0000000000000040');
INSERT INTO "minimum" VALUES(1,1.0,1.0e-09,0,2.0,0,0,1.0,0.0,0,1,1,'q',1,1,X'000000000000F03F0000000000000000',X'000000000000F03F0000000000000040');
INSERT INTO "minimum" VALUES(2,4.0,1.0e-09,0,3.0,0,0,1.0,0.0,0,1,1,'q',2,2,X'00000000000000400000000000000000',X'000000000000F03F0000000000000040');
CREATE TABLE pair(
    a INTEGER NOT NULL, b INTEGER NOT NULL, times INTEGER NOT NULL, outcome TEXT NOT NULL,
    PRIMARY KEY(a, b)
) WITHOUT ROWID;
INSERT INTO "pair" VALUES(0,1,1,'joined');
CREATE TABLE path(
    transition_state INTEGER PRIMARY KEY REFERENCES transition_state(id),
    arc BLOB NOT NULL,        -- arc lengths,
    energy BLOB NOT NULL      -- and energies, both little-endian float64
);
INSERT INTO "path" VALUES(0,X'0000000000000000000000000000F03F0000000000000040',X'00000000000000000000000000001240000000000000F03F');
CREATE TABLE property(
    name TEXT NOT NULL, minimum INTEGER NOT NULL REFERENCES minimum(id), value REAL,
    PRIMARY KEY(name, minimum)
) WITHOUT ROWID;
INSERT INTO "property" VALUES('accuracy',0,0.5);
INSERT INTO "property" VALUES('accuracy',1,0.25);
INSERT INTO "property" VALUES('accuracy',2,0.125);
CREATE TABLE refusal(run INTEGER, task TEXT, kind TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL);
INSERT INTO "refusal" VALUES(1,NULL,'minimum','not finite',1);
CREATE TABLE run(
    id INTEGER PRIMARY KEY, seed INTEGER NOT NULL, settings TEXT NOT NULL, versions TEXT NOT NULL,
    status TEXT NOT NULL, started TEXT NOT NULL, finished TEXT
);
INSERT INTO "run" VALUES(1,5,'{"a": 1}','{"torchscape": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7", "sqlite": "3.40.1", "machine": "Linux", "accelerator": null}','complete','2026-11-29T20:07:53+00:00','2026-11-29T20:07:53+00:00');
CREATE TABLE state(key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "state" VALUES('s','{"n": 3}');
CREATE TABLE state_array(
    key TEXT NOT NULL REFERENCES state(key), name TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY(key, name)
);
INSERT INTO "state_array" VALUES('s','x','<f8','[4]',X'0000000000000000000000000000F03F00000000000000400000000000000840');
CREATE TABLE task(
    key TEXT PRIMARY KEY, run INTEGER, kind TEXT NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL,
    n_evaluations INTEGER NOT NULL, wall REAL
);
INSERT INTO "task" VALUES('q',1,'quench','done','{"x": 1}',30,1.5);
CREATE TABLE transition_state(
    id INTEGER PRIMARY KEY,
    energy REAL NOT NULL,
    grad_rms REAL,
    idx INTEGER,              -- negative Hessian eigenvalues; NULL where not computed
    log_det REAL,             -- sum of ln|mu| over the non-zero eigenvalues; NULL where not computed
    n_zero INTEGER,           -- zero eigenvalues; NULL where not computed
    n_flat INTEGER,           -- those among them that no declared symmetry explains; NULL where not computed
    lowest REAL,              -- lowest eigenvalue; NULL where not computed
    log_degeneracy REAL NOT NULL,
    n_evaluations INTEGER NOT NULL,
    hits INTEGER NOT NULL,    -- searches that ended in it
    run INTEGER,              -- where it was first found: the run (and so the seed),
    task TEXT,                -- the task of that run,
    start INTEGER,            -- and the row of that task
    
    minus INTEGER REFERENCES minimum(id),  -- NULL where that path leaves the box
    plus INTEGER REFERENCES minimum(id),
    conflicts INTEGER NOT NULL DEFAULT 0,  -- hits whose downhill paths ended elsewhere

    x BLOB NOT NULL,          -- coordinates, little-endian float64 (last: scans of the rest skip it)
    eigenvalues BLOB          -- the spectrum, ascending, where it was computed densely
);
INSERT INTO "transition_state" VALUES(0,4.5,1.0e-09,1,NULL,NULL,NULL,-1.0,0.0,0,1,1,NULL,0,0,1,0,X'000000000000F83F000000000000F83F',X'000000000000F0BF0000000000000040');
CREATE INDEX minimum_by_energy ON minimum(energy, idx);
CREATE INDEX no_minimum ON minimum(idx) WHERE idx > 0;
CREATE INDEX member ON minimum(family, id) WHERE family != id;
CREATE INDEX without_family ON minimum(id) WHERE family IS NULL;
CREATE INDEX transition_state_by_energy ON transition_state(energy, minus, plus);
COMMIT;
