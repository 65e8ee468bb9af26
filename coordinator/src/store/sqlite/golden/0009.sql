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
INSERT INTO _sqlx_migrations VALUES (4, 'paused', '2026-01-01 00:00:00', 1, X'3559EA47EF4BBA948863963C952573DDA63975B2243A106918C4EFA6AF51FEF2A0F2A8EF2778E94DB65F2DF0D856F4C3', 0);
INSERT INTO _sqlx_migrations VALUES (5, 'replays', '2026-01-01 00:00:00', 1, X'96E4013645AB1BB5FB0B6B1B869942D069D3AD4D091B2B462BC4FAB9442350CEAA5561DDC64AC8A404DADF5776388C99', 0);
INSERT INTO _sqlx_migrations VALUES (6, 'collected', '2026-01-01 00:00:00', 1, X'1CCB72B80AFC37C2A722DD28134382FC11A78FF2CBE79DA35A9C052BC6ED9BEEACAA3C05B28CBE170AB2E58BB76FAB92', 0);
INSERT INTO _sqlx_migrations VALUES (7, 'series', '2026-01-01 00:00:00', 1, X'2B42C2F3D7A3470DDBE14EC7507FE233FF3BE455DD1C1F2CE5CD5F648114FDC0D0BF85B29B3237D2B22071C9751CD0FF', 0);
INSERT INTO _sqlx_migrations VALUES (8, 'sharing', '2026-01-01 00:00:00', 1, X'7801A0B02FBFAC8E7ABC070017FC68C6544C0511B9F286512DC0C676B928374D95C263D5C0959DD2FD7E3063C18887A6', 0);
INSERT INTO _sqlx_migrations VALUES (9, 'points', '2026-01-01 00:00:00', 1, X'5BB12F7BF1639C6AEECFBFD311078EDC96994AA9531D418414BF81EA10E943DEE2D7E51D1BB0F0CB64FD2AAC32240242', 0);
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
, paused_at INTEGER, environment TEXT, priority INTEGER NOT NULL DEFAULT 0, weight INTEGER NOT NULL DEFAULT 1, max_concurrent INTEGER, device_memory INTEGER NOT NULL DEFAULT 0) STRICT;
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
', '{"dataset":"57415fb80d156b5482b6dfe204fa97bf763a7b71aa81329f75d8eee4dab7887a"}', '{"arms":[{"name":"frozen","levels":{"arm":"frozen"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":2,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"}]},{"name":"finetuned","levels":{"arm":"finetuned"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":1,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"},{"epochs":1,"train":"denseblock4","lr":0.001,"schedule":{"name":"constant"},"augment":"none"}]}],"runs":[{"id":"6bb87c91-9284-502c-8c52-b97dee5fd723","arm":0,"seed":0,"path":[0,1]},{"id":"c485a750-e8ba-5b20-85c8-554ebb713e84","arm":1,"seed":0,"path":[0,2]}],"segments":[{"id":"774e9e59-becf-564a-8a7a-05e1a81c52bc","work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":1,"key":"01a1d61ea1109a55e77640283f2324ce8793eb808805326876ed8863a312c851","train":"head","optimizer_starts":true,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":false}},{"id":"1deb83ab-1162-56e2-b098-5cff3898e600","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"8e87c7abf0cbd4721d126bc38689e6d6f01c8b4220d94eaa19a6e133a117a239","train":"head","optimizer_starts":false,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}},{"id":"90e1a955-39f9-50f4-bec3-72ed76cef991","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"1bcf4e39c8a441c33aad2a452bdfe3c9f1bfe409856e22c29dd64c62c7d544d3","train":"denseblock4","optimizer_starts":true,"lr":0.001,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}}]}', 3, 7, NULL, NULL, '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 0, 1, NULL, 0);
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
', '{"dataset":"57415fb80d156b5482b6dfe204fa97bf763a7b71aa81329f75d8eee4dab7887a"}', '{"arms":[{"name":"frozen","levels":{"arm":"frozen"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":2,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"}]},{"name":"finetuned","levels":{"arm":"finetuned"},"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","stages":[{"epochs":1,"train":"head","lr":0.1,"schedule":{"name":"constant"},"augment":"none"},{"epochs":1,"train":"denseblock4","lr":0.001,"schedule":{"name":"constant"},"augment":"none"}]}],"runs":[{"id":"1cb05b93-89e8-5c28-9328-a8d8d3025e79","arm":0,"seed":0,"path":[0,1]},{"id":"d7ca278a-d59b-5f14-af62-73db4aa8f860","arm":1,"seed":0,"path":[0,2]}],"segments":[{"id":"d428f421-c505-55ec-a05c-d2ef97ee4490","work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":1,"key":"01a1d61ea1109a55e77640283f2324ce8793eb808805326876ed8863a312c851","train":"head","optimizer_starts":true,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":false}},{"id":"2a5136cd-0b9a-5621-b599-104ba9b08b7c","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"8e87c7abf0cbd4721d126bc38689e6d6f01c8b4220d94eaa19a6e133a117a239","train":"head","optimizer_starts":false,"lr":0.1,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}},{"id":"d8926595-8e86-5e89-9c63-8406195c8133","parent":0,"work":{"arch":"densenet121","seed":0,"batch_size":32,"optimization":{"rule":{"name":"adam","betas":[0.9,0.999],"epsilon":1e-8},"weight_decay":0.0,"decay_norms_and_biases":false,"clip_norm":null,"label_smoothing":0.0,"class_weights":"none","lr_decay_per_block":1.0,"accumulate":1,"average":null},"precision":"fp32","memory":"normal","epochs":[{"epoch":2,"key":"1bcf4e39c8a441c33aad2a452bdfe3c9f1bfe409856e22c29dd64c62c7d544d3","train":"denseblock4","optimizer_starts":true,"lr":0.001,"rates":{"name":"constant"},"augment":"none"}],"endpoint":true}}]}', 3, 7, NULL, 31016, NULL, 0, 1, NULL, 0);
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
INSERT INTO segments VALUES ('1deb83ab-1162-56e2-b098-5cff3898e600', '00000000-0000-0000-0000-000000000001', 1, 'running', NULL, 2, '00000000-0000-0000-0000-000000000032', 2, 41009, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('90e1a955-39f9-50f4-bec3-72ed76cef991', '00000000-0000-0000-0000-000000000001', 2, 'queued', NULL, NULL, NULL, NULL, 11007, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('d428f421-c505-55ec-a05c-d2ef97ee4490', '00000000-0000-0000-0000-000000000002', 0, 'completed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('2a5136cd-0b9a-5621-b599-104ba9b08b7c', '00000000-0000-0000-0000-000000000002', 1, 'queued', NULL, NULL, NULL, NULL, 31015, NULL, NULL, 0, 0);
INSERT INTO segments VALUES ('d8926595-8e86-5e89-9c63-8406195c8133', '00000000-0000-0000-0000-000000000002', 2, 'queued', NULL, NULL, NULL, NULL, 31015, NULL, NULL, 0, 0);
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
    message     TEXT, replays INTEGER NOT NULL DEFAULT 0, -- failed
    UNIQUE (segment, number)
) STRICT;
INSERT INTO attempts VALUES (1, '774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 1002, 1003, 1004, 'failed', 'infrastructure', 'the disk is full', 0);
INSERT INTO attempts VALUES (2, '774e9e59-becf-564a-8a7a-05e1a81c52bc', 2, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 1004, 11006, 11008, 'finished', NULL, NULL, 0);
INSERT INTO attempts VALUES (3, '1deb83ab-1162-56e2-b098-5cff3898e600', 1, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 11008, NULL, 11009, 'failed', 'infrastructure', 'it is gone', 0);
INSERT INTO attempts VALUES (4, '1deb83ab-1162-56e2-b098-5cff3898e600', 2, '00000000-0000-0000-0000-000000000032', '{"engine":"2","libtorch":"2","device":"cpu","instructions":"AVX2","threads":1,"determinism":"default"}', 11009, 31012, NULL, NULL, NULL, NULL, 1);
CREATE TABLE epochs (
    segment      TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    lineage_key  TEXT NOT NULL,
    attempt      INTEGER NOT NULL, -- number of the one that trained it
    manifest     TEXT NOT NULL,
    steps        INTEGER NOT NULL,
    samples      INTEGER NOT NULL,
    seconds      REAL NOT NULL,
    committed_at INTEGER NOT NULL, weights TEXT,
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (segment, attempt) REFERENCES attempts (segment, number)
) STRICT;
INSERT INTO epochs VALUES ('774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, '01a1d61ea1109a55e77640283f2324ce8793eb808805326876ed8863a312c851', 2, '67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450', 3, 96, 0.1, 11007, '9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c');
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
INSERT INTO steps VALUES ('1deb83ab-1162-56e2-b098-5cff3898e600', 2, 5, '8e87c7abf0cbd4721d126bc38689e6d6f01c8b4220d94eaa19a6e133a117a239', 2, '3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a', 31014);
CREATE TABLE reused (
    segment TEXT NOT NULL REFERENCES segments (id),
    epoch   INTEGER NOT NULL,
    source  TEXT NOT NULL, -- the segment that trained it
    PRIMARY KEY (segment, epoch),
    FOREIGN KEY (source, epoch) REFERENCES epochs (segment, epoch)
) STRICT;
INSERT INTO reused VALUES ('d428f421-c505-55ec-a05c-d2ef97ee4490', 1, '774e9e59-becf-564a-8a7a-05e1a81c52bc');
CREATE TABLE replays (
    id           INTEGER PRIMARY KEY,
    segment      TEXT NOT NULL, -- the one that trained the epoch first
    epoch        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL REFERENCES attempts (id), -- that trained it again
    counts       INTEGER NOT NULL, -- 1 where it was in the same environment class, and ended in the same weights
    manifest     TEXT NOT NULL,
    weights      TEXT,
    steps        INTEGER NOT NULL,
    samples      INTEGER NOT NULL,
    seconds      REAL NOT NULL,
    committed_at INTEGER NOT NULL,
    UNIQUE (attempt, segment, epoch),
    FOREIGN KEY (segment, epoch) REFERENCES epochs (segment, epoch)
) STRICT;
INSERT INTO replays VALUES (1, '774e9e59-becf-564a-8a7a-05e1a81c52bc', 1, 4, 1, '998cfe1402844f4984021d4619c2301d9c6d5a88006b92f903f481214ad6f9c5', '9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c', 3, 96, 0.1, 31012);
CREATE TABLE damaged (
    manifest TEXT PRIMARY KEY,
    attempt  INTEGER NOT NULL REFERENCES attempts (id),
    found_at INTEGER NOT NULL
) STRICT;
INSERT INTO damaged VALUES ('67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450', 3, 11009);
CREATE TABLE collected (
    manifest     TEXT PRIMARY KEY,
    collected_at INTEGER NOT NULL
) STRICT;
INSERT INTO collected VALUES ('623448243c17b64205099193f57084bb3a4de22e621060f998e85ac4fdbc323a', 31016);
CREATE TABLE series (
    id      INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL REFERENCES attempts (id),
    split   TEXT NOT NULL,
    name    TEXT NOT NULL,
    UNIQUE (attempt, split, name)
) STRICT;
INSERT INTO series VALUES (1, 2, 'train', 'step_loss');
INSERT INTO series VALUES (2, 2, 'val', 'auc');
INSERT INTO series VALUES (3, 4, 'train', 'step_loss');
CREATE TABLE drained (
    worker TEXT PRIMARY KEY REFERENCES workers (id),
    slots  TEXT -- JSON: numbers; null where it is the whole worker
) STRICT;
CREATE TABLE "points" (
    series INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (series, epoch, step)
) STRICT, WITHOUT ROWID;
INSERT INTO points VALUES (1, 1, 1, 3.000000000000000445e-01);
INSERT INTO points VALUES (1, 1, 2, 4.94065645841247e-324);
INSERT INTO points VALUES (1, 1, 3, -1.797693134862315692e+308);
INSERT INTO points VALUES (2, 1, 3, 0.75);
INSERT INTO points VALUES (3, 2, 1, 0.125);
CREATE INDEX experiments_by_name ON experiments (name, position);
CREATE INDEX epochs_by_key ON epochs (lineage_key);
CREATE INDEX replays_by_epoch ON replays (segment, epoch, id);
CREATE VIEW trained AS
SELECT segment, epoch, lineage_key, attempt,
       coalesce((SELECT r.manifest FROM replays AS r WHERE r.segment = epochs.segment AND r.epoch = epochs.epoch AND r.counts
                 ORDER BY r.id DESC LIMIT 1), manifest) AS manifest,
       coalesce(weights, (SELECT r.weights FROM replays AS r WHERE r.segment = epochs.segment AND r.epoch = epochs.epoch
                          AND r.counts ORDER BY r.id DESC LIMIT 1)) AS weights,
       EXISTS (SELECT 1 FROM replays AS r WHERE r.segment = epochs.segment AND r.epoch = epochs.epoch AND r.counts) AS replayed,
       steps, samples, seconds, committed_at
FROM epochs;
CREATE VIEW counted AS
SELECT segment, segment AS source, epoch, lineage_key, attempt, manifest, weights, replayed, steps, samples, seconds,
       committed_at
FROM trained
UNION ALL
SELECT reused.segment, reused.source, t.epoch, t.lineage_key, t.attempt, t.manifest, t.weights, t.replayed, t.steps, t.samples,
       t.seconds, t.committed_at
FROM reused JOIN trained AS t ON t.segment = reused.source AND t.epoch = reused.epoch;
