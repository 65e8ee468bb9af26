//! Whole imports: of folders made here, and of the real and hostile files in the shared folder where there is one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use ceteris_shared::{dataset::SAMPLES_PER_SHARD, digest::Digest};
use image::{GrayImage, Luma};

use super::*;

/// A folder in which image number `n` of each entry `(folder, n)` exists.
fn folder(entries: &[(&str, u8)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (folder, number) in entries {
        fs::create_dir_all(root.path().join(folder)).unwrap();
        let image = GrayImage::from_fn(12, 10, |x, y| Luma([(x * y) as u8 ^ *number]));
        image.save(root.path().join(folder).join(format!("person{number}_virus_1.png"))).unwrap();
    }
    root
}

fn options(root: &Path) -> Options {
    Options {
        folder: root.to_owned(),
        csv: None,
        patients: Patients::AsListed,
        split: SplitChoice::Published,
        image_size: 8,
        scratch: None,
    }
}

fn run(options: &Options) -> Result<Imported, Error> {
    import(options, &|_| {})
}

const SMALL: [(&str, u8); 6] = [
    ("train/SICK", 1),
    ("train/NORMAL", 2),
    ("train/NORMAL", 3),
    ("val/SICK", 4),
    ("val/NORMAL", 5),
    ("test/NORMAL", 6),
];

#[test]
fn the_same_bytes_give_the_same_data_set() {
    let (first, second) = (folder(&SMALL), folder(&SMALL.iter().rev().copied().collect::<Vec<_>>()));
    let (first, second) = (run(&options(first.path())).unwrap(), run(&options(second.path())).unwrap());
    assert_eq!(first.manifest.digest(), second.manifest.digest());
    assert_eq!(Manifest::from_bytes(&first.manifest.to_bytes()).as_ref(), Ok(&first.manifest));

    let shard = fs::read(&first.shards[0]).unwrap();
    assert_eq!(Digest::of(&shard), first.manifest.shards[0].digest);
    assert_eq!(shard.len(), first.manifest.samples.len() * 64);
    for (sample, pixels) in first.manifest.samples.iter().zip(shard.chunks(64)) {
        assert_eq!(Digest::of(pixels), sample.pixels, "{}", sample.file);
    }
    let place = first.shards[0].clone();
    drop(first);
    assert!(!place.exists(), "shards are deleted with the import");
}

#[test]
fn shards_are_filled_one_after_the_other() {
    let root = folder(&[("train/A", 1), ("train/B", 2)]);
    let image = fs::read(root.path().join("train/A/person1_virus_1.png")).unwrap();
    for number in 0..SAMPLES_PER_SHARD {
        fs::write(root.path().join(format!("train/A/{number}.png")), &image).unwrap();
    }
    let called = AtomicU64::new(0);
    let imported = import(&options(root.path()), &|progress| {
        assert!(progress.done <= progress.total);
        called.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    let samples: Vec<u32> = imported.manifest.shards.iter().map(|shard| shard.samples).collect();
    assert_eq!(samples, [SAMPLES_PER_SHARD as u32, 2]);
    assert_eq!(called.into_inner(), SAMPLES_PER_SHARD as u64 + 2);
    Manifest::from_bytes(&imported.manifest.to_bytes()).unwrap();
}

#[test]
fn what_is_no_image_is_refused_and_the_rest_goes_on() {
    let root = folder(&SMALL);
    fs::write(root.path().join("manifest.csv"), "split,class,file\n").unwrap();
    fs::write(root.path().join("train/NORMAL/README.md"), "# notes\n").unwrap();
    fs::write(root.path().join("train/NORMAL/.DS_Store"), "x").unwrap();
    fs::write(root.path().join("train/list.csv"), "file\n").unwrap();
    let imported = run(&options(root.path())).unwrap();
    assert_eq!(imported.manifest.samples.len(), SMALL.len());
    let refused: Vec<_> = imported.refused.iter().map(|refused| (refused.file.as_str(), &refused.reason)).collect();
    assert_eq!(
        refused,
        [("train/NORMAL/README.md", &Refusal::NotAnImage), ("train/list.csv", &Refusal::OutsideClasses)]
    );
}

#[test]
fn a_folder_that_is_no_data_set_is_an_error_that_says_why() {
    let unreadable = folder(&SMALL);
    fs::write(unreadable.path().join("train/SICK/person1_virus_1.png"), "no image").unwrap();
    fs::remove_dir_all(unreadable.path().join("val/SICK")).unwrap();
    let untrained = folder(&[("train/NORMAL", 1), ("test/SICK", 2)]);
    let single = folder(&[("train/NORMAL", 1)]);
    let unsplit = folder(&[("NORMAL", 1), ("SICK", 2)]);
    let empty = tempfile::tempdir().unwrap();
    let errors: Vec<String> = [&unreadable, &untrained, &single, &unsplit, &empty]
        .map(|root| run(&options(root.path())).unwrap_err().to_string())
        .to_vec();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn patients_are_dealt_to_splits_on_request() {
    let entries: Vec<(&str, u8)> = (0..40)
        .flat_map(|n| if n % 4 == 0 { vec![("NORMAL", n)] } else { vec![("SICK", n), ("SICK/more", n)] })
        .collect();
    let root = folder(&entries);
    let choice = |seed| Options {
        patients: Patients::Required(Pattern::kermany()),
        split: SplitChoice::Drawn { fractions: "0.5,0.2,0.3".parse().unwrap(), seed },
        ..options(root.path())
    };
    let imported = run(&choice(0)).unwrap();
    let summary = summary::summary(&imported.manifest);
    assert_eq!((summary.patients, summary.patients_in_several_splits.len()), (40, 0));
    let counts: Vec<Vec<u64>> = imported.manifest.counts().into_values().collect();
    assert_eq!(counts, [[5, 30], [2, 12], [3, 18]]);
    assert_eq!(imported.manifest.digest(), run(&choice(0)).unwrap().manifest.digest());
    assert_ne!(imported.manifest.digest(), run(&choice(1)).unwrap().manifest.digest());
}

#[test]
fn a_listing_with_digests_is_verified() {
    let root = folder(&[("A", 1), ("A", 2), ("B", 3)]);
    let digest = Digest::of(&fs::read(root.path().join("A/person1_virus_1.png")).unwrap());
    let csv = root.path().join("list.csv");
    let rows = format!(
        "class,file,split,sha256\nA,person1_virus_1.png,train,{digest}\nA,person2_virus_1.png,train,{digest}\n\
         B,person3_virus_1.png,train,\n"
    );
    fs::write(&csv, rows).unwrap();
    let imported = run(&Options { csv: Some(csv), ..options(root.path()) }).unwrap();
    assert_eq!(imported.manifest.samples.len(), 2);
    assert_eq!(imported.refused[0].file, "A/person2_virus_1.png");
    assert_eq!(imported.refused[0].reason, Refusal::WrongDigest);
}

#[test]
fn an_unwritable_scratch_folder_is_named() {
    let root = folder(&SMALL);
    let error = run(&Options { scratch: Some("/no/such/place".into()), ..options(root.path()) }).unwrap_err();
    assert!(error.to_string().starts_with("cannot write /no/such/place: "), "{error}");
}

#[test]
fn a_peek_shows_the_first_images_of_each_class_in_turn() {
    let root = folder(&SMALL);
    fs::write(root.path().join("train/NORMAL/broken.png"), "no image").unwrap();
    let peeked = peek(root.path(), 8, 4).unwrap();
    let files: Vec<&str> = peeked.iter().map(|peeked| peeked.file.as_str()).collect();
    let order = [
        "train/SICK/person1_virus_1.png",
        "train/NORMAL/person2_virus_1.png",
        "val/SICK/person4_virus_1.png",
        "train/NORMAL/person3_virus_1.png",
    ];
    assert_eq!(files, order);
    let imported = run(&options(root.path())).unwrap();
    for peeked in &peeked {
        let sample = imported.manifest.samples.iter().find(|sample| sample.file == peeked.file).unwrap();
        assert_eq!(sample.pixels, Digest::of(&peeked.pixels));
    }
    fs::remove_file(root.path().join("train/NORMAL/broken.png")).unwrap();
    for peeked in peek(root.path(), 8, 6).unwrap() {
        assert_eq!(imported.manifest.samples[peeked.sample as usize].file, peeked.file);
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(peek(empty.path(), 8, 4).unwrap_err().to_string().starts_with("there is no image"));
}

/// The folder of real data, or a note that the test is skipped.
fn shared_data(test: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let data = std::env::var_os("CETERIS_SHARED_DIR").map_or_else(beside, PathBuf::from).join("data");
    if !data.is_dir() {
        eprintln!("skipped: {test} needs the shared data folder (CETERIS_SHARED_DIR)");
        return None;
    }
    Some(data)
}

#[test]
fn everything_good_imports_and_everything_bad_is_refused() {
    let Some(data) = shared_data("everything_good_imports_and_everything_bad_is_refused") else { return };
    let root = tempfile::tempdir().unwrap();
    for (class, source) in [("good", "good"), ("other", "bad"), ("other", "dicom")] {
        fs::create_dir_all(root.path().join("train").join(class)).unwrap();
        for entry in fs::read_dir(data.join("odd").join(source)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), root.path().join("train").join(class).join(entry.file_name())).unwrap();
        }
    }
    fs::copy(data.join("odd/good/gray8.png"), root.path().join("train/other/readable.png")).unwrap();
    let imported = run(&options(root.path())).unwrap();
    assert_eq!(imported.manifest.samples.len(), 21);
    assert_eq!(imported.narrow_range, ["train/good/gray16_12bit_range.png"]);
    let refused: Vec<String> = imported.refused.iter().map(Refused::to_string).collect();
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn one_picture_in_many_formats_is_one_picture() {
    let Some(data) = shared_data("one_picture_in_many_formats_is_one_picture") else { return };
    let good = |name: &str| decode(&fs::read(data.join("odd/good").join(name)).unwrap(), 64).unwrap().pixels;
    let reference = good("gray8.png");
    let names = [
        "UPPER CASE spaced.JPEG",
        "cmyk.jpg",
        "exif_orientation6.jpg",
        "gray16.png",
        "gray8.bmp",
        "gray8.tiff",
        "gray8.webp",
        "gray8_progressive.jpg",
        "gray_alpha.png",
        "jpeg_named.png",
        "palette.png",
        "rgb_420.jpg",
        "rgb_444.jpg",
        "rgba.png",
    ];
    for name in names {
        let differences: u32 = good(name).iter().zip(&reference).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let mean = f64::from(differences) / reference.len() as f64;
        assert!(mean < 1.0, "{name} differs by {mean} on average");
    }
}
