use super::*;

fn environment() -> Environment {
    Environment {
        engine: "1".to_owned(),
        libtorch: "2.9.1".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX2".to_owned(),
        threads: 2,
        determinism: "default".to_owned(),
    }
}

fn source(environment: &Environment) -> Source<'_> {
    Source {
        arch: Arch::Densenet121,
        boundary: Part::Head,
        frozen: Digest::of(b"frozen"),
        dataset: Digest::of(b"data set"),
        split: Some(Split::Train),
        image_size: 224,
        precision: Precision::Fp32,
        batch: 32,
        environment,
        augment: None,
    }
}

const DRAWS: Draws<'static> = Draws { policy: "light@1", seed: 0, epoch: Epoch(1) };

#[test]
fn golden_keys_never_change() {
    let environment = environment();
    let plain = source(&environment);
    assert_eq!(plain.key().to_string(), "04c1f05175e641dbaec0a2ac6c4fa45dc4ad77c2d1ede79492db7702c0f308f9");
    let augmented = Source { augment: Some(DRAWS), ..plain };
    assert_eq!(augmented.key().to_string(), "4451c6c9d1767b2a00cad4f2b1edaf30a2a7ba135a743487f94255617bf6ea92");
}

#[test]
fn everything_changes_the_key() {
    let environment = environment();
    let other = Environment { threads: 1, ..environment.clone() };
    let plain = source(&environment);
    let drawn = |draws| Source { augment: Some(draws), ..plain };
    let all = [
        plain,
        Source { arch: Arch::Densenet169, ..plain },
        Source { boundary: Part::Block4, ..plain },
        Source { frozen: Digest::of(b"other"), ..plain },
        Source { dataset: Digest::of(b"other"), ..plain },
        Source { split: None, ..plain },
        Source { image_size: 128, ..plain },
        Source { batch: 16, ..plain },
        Source { environment: &other, ..plain },
        drawn(DRAWS),
        drawn(Draws { policy: "strong@1", ..DRAWS }),
        drawn(Draws { policy: "light@1\nseed=1", ..DRAWS }),
        drawn(Draws { seed: 1, ..DRAWS }),
        drawn(Draws { epoch: Epoch(2), ..DRAWS }),
    ];
    let keys: std::collections::BTreeSet<FeatureKey> = all.iter().map(Source::key).collect();
    assert_eq!(keys.len(), all.len());
}

fn manifest() -> Manifest {
    let shard = |samples: u32| Shard { digest: Digest::of(b"shard"), samples, bytes: u64::from(samples) * 12 };
    Manifest {
        schema: SCHEMA.to_owned(),
        key: FeatureKey(Digest::of(b"key")),
        shape: vec![3, 1],
        dtype: Dtype::F32,
        samples_per_shard: 4,
        shards: vec![shard(4), shard(4), shard(2)],
    }
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let written = manifest();
    assert_eq!((written.samples(), written.bytes(), written.sample_bytes()), (10, 120, Some(12)));
    assert_eq!(Manifest::from_bytes(&written.to_bytes(), written.key), Ok(written));
}

#[test]
fn what_cannot_be_is_refused() {
    type Spoil = fn(&mut Manifest);
    let refused = |change: Spoil| {
        let mut changed = manifest();
        change(&mut changed);
        Manifest::from_bytes(&changed.to_bytes(), manifest().key).expect_err("it is refused").to_string()
    };
    let cases: [(Spoil, &str); 9] = [
        (|manifest| manifest.schema = "ceteris.features.manifest/9".to_owned(), "has schema"),
        (|manifest| manifest.key = FeatureKey(Digest::of(b"other")), "is of"),
        (|manifest| manifest.shape.clear(), "not the shape"),
        (|manifest| manifest.shape = vec![u32::MAX; 8], "not the shape"),
        (|manifest| manifest.shards.clear(), "no shard"),
        (|manifest| manifest.shards[0].samples = 3, "shard 0 of 3 has 3 samples"),
        (|manifest| manifest.shards[2].samples = 5, "shard 2 of 3 has 5 samples"),
        (|manifest| manifest.shards[2].samples = 0, "shard 2 of 3 has 0 samples"),
        (|manifest| manifest.dtype = Dtype::Bf16, "shard 0 has 48 bytes for 4 samples of 6 bytes"),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.contains(expected), "{message}");
    }
    let key = manifest().key;
    assert!(matches!(Manifest::from_bytes(b"[]", key), Err(Error::Malformed(_))));
    let long = vec![b' '; MAX_MANIFEST_BYTES as usize + 1];
    assert!(matches!(Manifest::from_bytes(&long, key), Err(Error::TooLarge(_))));
}
