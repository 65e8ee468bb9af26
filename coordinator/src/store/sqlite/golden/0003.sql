CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES (1, 'first', '2026-01-01 00:00:00', 1, X'294602FFD5D4FB562C8D33DD56A3E0F5CD2652E9313E13E37BE9D17DAE7F2CCB259ACAD4F92FB6083D781F975213E2C1', 0);
INSERT INTO _sqlx_migrations VALUES (2, 'steps', '2026-01-01 00:00:00', 1, X'C347AFC8FC67F39A958E99FDF0C8F9515EC83EE6CEEE8D71E803CD0F9F5FB67495BDFC417DC9F5419BFA9EDE69D9EAF0', 0);
INSERT INTO _sqlx_migrations VALUES (3, 'reused', '2026-01-01 00:00:00', 1, X'5C45B24D32B4CBEA546D3E1E05379A9A12C436DBD71E8932BB7CE819A94A204B6A164BC899CBA1C53928D460F4E3AF36', 0);
CREATE TABLE datasets (
    name          TEXT PRIMARY KEY,
    manifest      TEXT NOT NULL,
    image_size    INTEGER NOT NULL,
    classes       TEXT NOT NULL, -- JSON: names
    counts        TEXT NOT NULL, -- JSON: split -> samples per class
    patients      INTEGER,
    registered_at INTEGER NOT NULL
) STRICT;
INSERT INTO datasets VALUES ('d', '57415fb80d156b5482b6dfe204fa97bf763a7b71aa81329f75d8eee4dab7887a', 224, '["NORMAL","PNEUMONIA"]', '{"train":[3,4],"val":[1,1]}', 5, 1);
CREATE TABLE weights (
    name          TEXT PRIMARY KEY,
    digest        TEXT NOT NULL,
    arch          TEXT NOT NULL, -- JSON
    registered_at INTEGER NOT NULL
) STRICT;
INSERT INTO weights VALUES ('imagenet', '0afd7c2a84f4f66e539574b333e1cfb9e61197116aa7420a89ccb2dfa6a28610', '"densenet121"', 1);
CREATE TABLE workers (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    slots       INTEGER NOT NULL,
    environment TEXT NOT NULL, -- JSON
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    sequence    INTEGER NOT NULL DEFAULT 0 -- of the last event of it that is stored
) STRICT;
INSERT INTO workers VALUES ('00000000-0000-0000-0000-000000000032', 'w', '1', 1, '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 1, 1, 3);
CREATE TABLE experiments (
    position     INTEGER PRIMARY KEY, -- the order of submission
    id           TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    spec         TEXT NOT NULL, -- JSON
    source       TEXT NOT NULL, -- as the user wrote it
    pins         TEXT NOT NULL, -- JSON
    plan         TEXT NOT NULL, -- JSON
    epochs       INTEGER NOT NULL, -- to train, shared ones once
    submitted_at INTEGER NOT NULL,
    cancelled_at INTEGER
) STRICT;
INSERT INTO experiments VALUES (1, '00000000-0000-0000-0000-000000000001', 'golden', '{"name":"golden","data":{"dataset":"d","external":[]},"model":{"arch":"densenet121","init":"random"},"budget":{"epochs":2},"controls":{"batch_size":32,"optimizer":{"name":"adam"},"lr":0.001,"schedule":{"name":"constant"},"augment":"none","label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"precision":"fp32","memory":"normal"},"seeds":{"count":1},"arm":[{"name":"frozen","stages":[{"epochs":2,"train":"head","lr":0.1}]},{"name":"finetuned","stages":[{"epochs":1,"train":"head","lr":0.1},{"epochs":1,"train":"denseblock4"}]}],"grid":{},"endpoint":{"metric":"val.auc","epoch":"last","threshold":0.5},"execution":{},"compare":{"correct":"holm","alpha":0.05}}', '
name = "example"
data = { dataset = "d" }
model = { init = "random" }
budget = { epochs = 2 }
seeds = { count = 1 }
[[arm]]
name = "frozen"
stages = [{ epochs = 2, train = "head", lr = 0.1000000000000000055 }]
[[arm]]
name = "finetuned"
stages = [{ epochs = 1, train = "head", lr = 0.1000000000000000055 }, { epochs = 1, train = "denseblock4" }]
', '{"dataset":"57415fb80d156b5482b6dfe204fa97bf763a7b71aa81329f75d8eee4dab7887a"}', '{"arms":[{"name":"frozen","levels":{"arm":"frozen"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":2,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"}]},{"name":"finetuned","levels":{"arm":"finetuned"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":1,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"},{"epochs":1,"train":"denseblock4","lr":0.001,"schedule":{"name":"constant"},"augment":"none"}]}],"runs":[{"id":"6bb87c91-9284-502c-8c52-b97dee5fd723","arm":0,"seed":0,"path":[0,1]},{"id":"c485a750-e8ba-5b20-85c8-554ebb713e84","arm":1,"seed":0,"path":[0,2]}],"segments":[{"id":"774e9e59-becf-564a-8a7a-05e1a81c52bc","work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":1,"key":"01a1d61ea1109a55e77640283f2324ce8793eb808805326876ed8863a312c851","train":"head","optimizer_starts":true,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":false}},{"id":"1deb83ab-1162-56e2-b098-5cff3898e600","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"8e87c7abf0cbd4721d126bc38689e6d6f01c8b4220d94eaa19a6e133a117a239","train":"head","optimizer_starts":false,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}},{"id":"90e1a955-39f9-50f4-bec3-72ed76cef991","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"1bcf4e39c8a441c33aad2a452bdfe3c9f1bfe409856e22c29dd64c62c7d544d3","train":"denseblock4","optimizer_starts":true,"lr":0.001,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}}]}', 3, 7, NULL);
INSERT INTO experiments VALUES (2, '00000000-0000-0000-0000-000000000002', 'golden-again', '{"name":"golden-again","data":{"dataset":"d","external":[]},"model":{"arch":"densenet121","init":"random"},"budget":{"epochs":2},"controls":{"batch_size":32,"optimizer":{"name":"adam"},"lr":0.001,"schedule":{"name":"constant"},"augment":"none","label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"precision":"fp32","memory":"normal"},"seeds":{"count":1},"arm":[{"name":"frozen","stages":[{"epochs":2,"train":"head","lr":0.1}]},{"name":"finetuned","stages":[{"epochs":1,"train":"head","lr":0.1},{"epochs":1,"train":"denseblock4"}]}],"grid":{},"endpoint":{"metric":"val.auc","epoch":"last","threshold":0.5},"execution":{},"compare":{"correct":"holm","alpha":0.05}}', '
name = "example"
data = { dataset = "d" }
model = { init = "random" }
budget = { epochs = 2 }
seeds = { count = 1 }
[[arm]]
name = "frozen"
stages = [{ epochs = 2, train = "head", lr = 0.1000000000000000055 }]
[[arm]]
name = "finetuned"
stages = [{ epochs = 1, train = "head", lr = 0.1000000000000000055 }, { epochs = 1, train = "denseblock4" }]
', '{"dataset":"57415fb80d156b5482b6dfe204fa97bf763a7b71aa81329f75d8eee4dab7887a"}', '{"arms":[{"name":"frozen","levels":{"arm":"frozen"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":2,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"}]},{"name":"finetuned","levels":{"arm":"finetuned"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":1,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"},{"epochs":1,"train":"denseblock4","lr":0.001,"schedule":{"name":"constant"},"augment":"none"}]}],"runs":[{"id":"1cb05b93-89e8-5c28-9328-a8d8d3025e79","arm":0,"seed":0,"path":[0,1]},{"id":"d7ca278a-d59b-5f14-af62-73db4aa8f860","arm":1,"seed":0,"path":[0,2]}],"segments":[{"id":"d428f421-c505-55ec-a05c-d2ef97ee4490","work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":1,"key":"01a1d61ea1109a55e77640283f2324ce8793eb808805326876ed8863a312c851","train":"head","optimizer_starts":true,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":false}},{"id":"2a5136cd-0b9a-5621-b599-104ba9b08b7c","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"8e87c7abf0cbd4721d126bc38689e6d6f01c8b4220d94eaa19a6e133a117a239","train":"head","optimizer_starts":false,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}},{"id":"d8926595-8e86-5e89-9c63-8406195c8133","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"1bcf4e39c8a441c33aad2a452bdfe3c9f1bfe409856e22c29dd64c62c7d544d3","train":"denseblock4","optimizer_starts":true,"lr":0.001,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}}]}', 3, 7, NULL);
CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    experiment TEXT NOT NULL REFERENCES experiments (id),
    position   INTEGER NOT NULL, -- in the plan
    UNIQUE (experiment, position)
) STRICT;
INSERT INTO runs VALUES ('6bb87c91-9284-502c-8c52-b97dee5fd723', '00000000-0000-0000-0000-000000000001', 0);
INSERT INTO runs VALUES ('c485a750-e8ba-5b20-85c8-554ebb713e84', '00000000-0000-0000-0000-000000000001', 1);
INSERT INTO runs VALUES ('1cb05b93-89e8-5c28-9328-a8d8d3025e79', '00000000-0000-0000-0000-000000000002', 0);
INSERT INTO runs VALUES ('d7ca278a-d59b-5f14-af62-73db4aa8f860', '00000000-0000-0000-0000-000000000002', 1);
CREATE TABLE segments (
    id         TEXT PRIMARY KEY,
    experiment TEXT NOT NULL REFERENCES experiments (id),
    position   INTEGER NOT NULL, -- in the plan
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'queued', 'assigned', 'running', 'stopping', 'completed',
                                              'cancelled', 'diverged', 'failed', 'blocked')),
    behind     TEXT,    -- waiting: the segment that it continues; blocked: the one that failed
    attempt    INTEGER, -- assigned, running, stopping
    worker     TEXT,    -- assigned, running, stopping
    epoch      INTEGER, -- running: the one in flight
    until      INTEGER, -- queued: not before; assigned, running: the lease; stopping: the deadline
    cause      TEXT,    -- stopping: why; failed, diverged: who must act
    message    TEXT,    -- failed, diverged
    failures   INTEGER NOT NULL DEFAULT 0, -- in a row
    losses     INTEGER NOT NULL DEFAULT 0, -- in a row
    UNIQUE (experiment, position)
) STRICT;
INSERT INTO segments VALUES ('774e9e59-becf-564a-8a7a-05e1a81c52bc', '00000000-0000-0000-0000-000000000001', 0, 'completed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('1deb83ab-1162-56e2-b098-5cff3898e600', '00000000-0000-0000-0000-000000000001', 1, 'running', NULL, 1, '00000000-0000-0000-0000-000000000032', 2, 41008, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('90e1a955-39f9-50f4-bec3-72ed76cef991', '00000000-0000-0000-0000-000000000001', 2, 'queued', NULL, NULL, NULL, NULL, 11007, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('d428f421-c505-55ec-a05c-d2ef97ee4490', '00000000-0000-0000-0000-000000000002', 0, 'completed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('2a5136cd-0b9a-5621-b599-104ba9b08b7c', '00000000-0000-0000-0000-000000000002', 1, 'queued', NULL, NULL, NULL, NULL, 11011, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('d8926595-8e86-5e89-9c63-8406195c8133', '00000000-0000-0000-0000-000000000002', 2, 'queued', NULL, NULL, NULL, NULL, 11011, NULL, NULL, 0, 0);
CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    segment     TEXT NOT NULL REFERENCES segments (id),
    number      INTEGER NOT NULL, -- the fencing token
    worker      TEXT NOT NULL REFERENCES workers (id),
    environment TEXT NOT NULL, -- JSON
    assigned_at INTEGER NOT NULL,
    started_at  INTEGER,
    ended_at    INTEGER,
    ending      TEXT CHECK (ending IN ('finished', 'stopped', 'failed', 'lost')),
    cause       TEXT, -- failed: who must act
    message     TEXT, -- failed
    UNIQUE (segment, number)
) STRICT;
INSERT INTO attempts VALUES (1, '774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 1002, 1003, 1004, 'failed', 'infrastructure', 'the disk is full');
INSERT INTO attempts VALUES (2, '774e9e59-becf-564a-8a7a-05e1a81c52bc', 2, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 11005, 11006, 11008, 'finished', NULL, NULL);
INSERT INTO attempts VALUES (3, '1deb83ab-1162-56e2-b098-5cff3898e600', 1, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 11008, 11009, NULL, NULL, NULL, NULL);
CREATE TABLE epochs (
    segment      TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    lineage_key  TEXT NOT NULL,
    attempt      INTEGER NOT NULL, -- number of the one that trained it
    manifest     TEXT NOT NULL,
    steps        INTEGER NOT NULL,
    samples      INTEGER NOT NULL,
    seconds      REAL NOT NULL,
    committed_at INTEGER NOT NULL,
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
) STRICT;
INSERT INTO epochs VALUES ('774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, '01a1d61ea1109a55e77640283f2324ce8793eb808805326876ed8863a312c851', 2, '67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450', 3, 96, 0.1, 11007);
CREATE TABLE predictions (
    segment TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    scored  TEXT NOT NULL, -- split:NAME or external:NAME
    digest  TEXT NOT NULL,
    PRIMARY KEY (segment, epoch, scored),
    FOREIGN KEY (segment, epoch) REFERENCES epochs (segment, epoch)
) STRICT;
INSERT INTO predictions VALUES ('774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, 'split:val', '97dfc65f74283f60c606bda3f75a6a6bec3fc1e513b8b40797b5ecb86c824ee2');
INSERT INTO predictions VALUES ('774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, 'external:o:ther', 'd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa');
CREATE TABLE metrics (
    attempt INTEGER NOT NULL REFERENCES attempts (id),
    split   TEXT NOT NULL,
    name    TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    value   REAL NOT NULL,
    PRIMARY KEY (attempt, split, name, epoch, step)
) STRICT, WITHOUT ROWID;
INSERT INTO metrics VALUES (2, 'train', 'step_loss', 1, 1, 3.000000000000000445e-01);
INSERT INTO metrics VALUES (2, 'train', 'step_loss', 1, 2, 4.94065645841247e-324);
INSERT INTO metrics VALUES (2, 'train', 'step_loss', 1, 3, -1.797693134862315692e+308);
INSERT INTO metrics VALUES (2, 'val', 'auc', 1, 3, 0.75);
INSERT INTO metrics VALUES (3, 'train', 'step_loss', 2, 1, 0.125);
CREATE TABLE logs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of arrival
    attempt  INTEGER NOT NULL REFERENCES attempts (id),
    sequence INTEGER NOT NULL, -- of the worker's event that brought them
    lines    TEXT NOT NULL, -- JSON
    UNIQUE (attempt, sequence)
) STRICT;
INSERT INTO logs VALUES (1, 2, 2, '["epoch 1","an é, a ''quote''\nand a line"]');
CREATE TABLE steps (
    segment      TEXT PRIMARY KEY,
    epoch        INTEGER NOT NULL, -- the one in flight
    step         INTEGER NOT NULL, -- optimizer steps of it that are done
    lineage_key  TEXT NOT NULL,
    attempt      INTEGER NOT NULL, -- number of the one that made it; its environment is the checkpoint's
    manifest     TEXT NOT NULL,
    committed_at INTEGER NOT NULL,
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
) STRICT;
INSERT INTO steps VALUES ('1deb83ab-1162-56e2-b098-5cff3898e600', 2, 5, '8e87c7abf0cbd4721d126bc38689e6d6f01c8b4220d94eaa19a6e133a117a239', 1, '3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a', 11010);
CREATE TABLE reused (
    segment TEXT NOT NULL REFERENCES segments (id),
    epoch   INTEGER NOT NULL,
    source  TEXT NOT NULL, -- the segment that trained it
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (source, epoch) REFERENCES epochs (segment, epoch)
) STRICT;
INSERT INTO reused VALUES ('d428f421-c505-55ec-a05c-d2ef97ee4490', 1, '774e9e59-becf-564a-8a7a-05e1a81c52bc');
CREATE INDEX experiments_by_name ON experiments (name, position);
CREATE INDEX epochs_by_key ON epochs (lineage_key);
CREATE VIEW counted AS
SELECT segment, segment AS source, epoch, lineage_key, attempt, manifest, steps, samples, seconds, committed_at
FROM epochs
UNION ALL
SELECT reused.segment, reused.source, epochs.epoch, epochs.lineage_key, epochs.attempt, epochs.manifest, epochs.steps,
       epochs.samples, epochs.seconds, epochs.committed_at
FROM reused JOIN epochs ON epochs.segment = reused.source AND epochs.epoch = reused.epoch;
