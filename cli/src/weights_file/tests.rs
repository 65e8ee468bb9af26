//! Whole files: golden ones that PyTorch wrote, hostile ones made here, full-size ones where there is a PyTorch.

use std::{fs, path::PathBuf, process::Command};

use proptest::prelude::*;
use safetensors::SafeTensors;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

const ZIP: &[u8] = include_bytes!("golden/zip.pth");
const LEGACY: &[u8] = include_bytes!("golden/legacy.pth");
const CHECKPOINT: &[u8] = include_bytes!("golden/checkpoint.pth");

/// Every floating-point tensor's values, whatever the architecture.
fn values(tensors: Vec<(String, Tensor<'_>)>) -> Result<Vec<(String, Vec<f32>)>, Error> {
    let floats = |bytes: Vec<u8>| bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let named = tensors.into_iter().filter(|(name, _)| name != "n");
    named.map(|(name, tensor)| Ok((name.clone(), floats(tensor.to_f32(&name)?)))).collect()
}

fn any_container(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>, Error> {
    if bytes.starts_with(b"PK") { torch::with_zip(bytes, values) } else { torch::with_legacy(bytes, values) }
}

#[test]
fn what_pytorch_wrote_is_read() {
    let expected: [(&str, &[f32]); 5] = [
        ("a", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ("b", &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ("h", &[1.0, -2.0]),
        ("d", &[0.5]),
        ("g", &[1.0, 2.0]),
    ];
    for bytes in [ZIP, LEGACY, CHECKPOINT] {
        let found = any_container(bytes).unwrap();
        let found: Vec<(&str, &[f32])> = found.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn another_network_is_told_apart_tensor_by_tensor() {
    insta::assert_snapshot!(canonical(ZIP).unwrap_err());
}

/// The old container with `state_dict`, a pickle without its protocol and end, and one storage `0` of two floats.
fn legacy(state_dict: &[u8]) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}U\rlittle_endian\x88s.".to_vec();
    file.extend([b"\x80\x02", state_dict, b".\x80\x02]U\x010a.\x02\0\0\0\0\0\0\0"].concat());
    file.extend([1.5f32, -2.5].into_iter().flat_map(f32::to_le_bytes));
    file
}

const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02NtQK\0K\x02\x85K\x01\x85tR";

#[test]
fn what_python_2_and_the_first_pytorch_wrote_is_read() {
    // an OrderedDict as one list of pairs, byte strings for texts, and the first version of the tensor's constructor
    let pairs = [b"ccollections\nOrderedDict\n(](]U\x01wa".as_slice(), TENSOR, b"aetR"].concat();
    assert_eq!(any_container(&legacy(&pairs)).unwrap(), [("w".to_owned(), vec![1.5, -2.5])]);
}

#[test]
fn nothing_is_executed_and_the_refusal_says_what_was_asked_for() {
    let system = b"}U\x01wcos\nsystem\nU\x07echo hi\x85Rs";
    let whole_model = b"ctorchvision.models.densenet\nDenseNet\n)\x81";
    let by_stack = b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R";
    let nested = [b"}U\x01w".as_slice(), TENSOR, b"sU\x01xcnumpy.core.multiarray\n_reconstruct\ns"].concat();
    let no_tensor = [b"}U\x01w".as_slice(), TENSOR, b"sU\x05epochK\x03s"].concat();
    let text = [system.as_slice(), whole_model, by_stack, &nested, b"I1\n", &no_tensor]
        .map(|code| canonical(&legacy(code)).unwrap_err().to_string())
        .join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn views_beyond_the_storage_are_refused() {
    let view = |offset: &[u8], shape: &[u8], strides: &[u8]| {
        let head = b"}U\x01wctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02NtQ";
        any_container(&legacy(&[head.as_slice(), offset, shape, strides, b"tRs"].concat()))
    };
    assert_eq!(view(b"K\0", b"K\x02\x85", b"K\x01\x85").unwrap()[0].1, [1.5, -2.5]);
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85".as_slice();
    for (offset, shape, strides) in [
        (b"K\x01".as_slice(), b"K\x02\x85".as_slice(), b"K\x01\x85".as_slice()),
        (b"K\0", b"K\x03\x85", b"K\0\x85"),
        (b"K\0", b"K\x02\x85", huge),
        (b"K\0", huge, b"K\x01\x85"),
        (b"K\0", b"K\x02\x85", b")"),
    ] {
        assert!(matches!(view(offset, shape, strides), Err(Error::OutOfBounds(name)) if name == "w"));
    }
    let negative = view(b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85").unwrap_err().to_string();
    assert!(negative.ends_with("a size is negative or too large"), "{negative}");
}

#[test]
fn a_pickle_cannot_make_more_than_it_is_long() {
    // deep nesting, a list inside itself, and one list copied into a dict again and again
    let deep = [b")".as_slice(), &vec![0x85; 1 << 18], b"0"].concat();
    assert!(pickle::read(&deep).is_err());
    let kept_deep = pickle::read(&[b")".as_slice(), &vec![0x85; 1 << 18], b"."].concat());
    assert!(kept_deep.is_ok(), "and dropping it does not overflow the stack");
    assert!(pickle::read(b"]q\0h\0a.").is_ok());
    let mut copies = b"](".to_vec();
    copies.extend(b"NN\x86".repeat(10_000));
    copies.extend(b"eq\0");
    copies.extend(b"ccollections\nOrderedDict\nh\0\x85R".repeat(1_000));
    copies.push(b'.');
    assert_eq!(pickle::read(&copies).err(), Some(pickle::Error::Malformed("it copies one list again and again")));
    assert_eq!(pickle::read(&vec![b'N'; pickle::MAX_BYTES + 1]).err(), Some(pickle::Error::Truncated));
    assert_eq!(pickle::read(b"X\xff\xff\xff\xffabc").err(), Some(pickle::Error::Truncated));
}

fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let bomb = archive(&[("m/data.pkl", &vec![b'N'; 1 << 22])], CompressionMethod::Deflated);
    assert!(bomb.len() < 1 << 16);
    let code = [b"\x80\x02}U\x01w".as_slice(), TENSOR, b"s."].concat();
    let stored = |entries: &[(&str, &[u8])]| archive(entries, CompressionMethod::Stored);
    let cases = [
        (bomb, "compressed, which torch.save never does"),
        (stored(&[("m/data.pkl", &code), ("m/byteorder", b"big")]), "big-endian"),
        (stored(&[("m/data.pkl", &code)]), "storage \"0\" is missing"),
        (stored(&[("m/data.pkl", &code), ("n/data.pkl", &code)]), "neither safetensors nor"),
        (stored(&[("report.docx", b"")]), "neither safetensors nor"),
        (ZIP[..ZIP.len() - 30].to_vec(), "damaged"),
    ];
    for (bytes, expected) in cases {
        let error = canonical(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} says nothing of {expected:?}");
    }
    let short = stored(&[("m/data.pkl", &code), ("m/data/0", &[0; 4])]);
    assert!(matches!(any_container(&short), Err(Error::OutOfBounds(_))));
}

/// Full-size weights as safetensors: every value 0.5, in `dtype`, with `extra` tensors of shape [2].
fn safetensors_file(dtype: safetensors::Dtype, value: &[u8], classes: Option<usize>, extra: &[&str]) -> Vec<u8> {
    let mut shapes = shapes(Arch::Densenet121, classes);
    shapes.extend(extra.iter().map(|name| ((*name).to_owned(), vec![2])));
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        shapes.into_iter().map(|(name, shape)| (name, shape.clone(), value.repeat(shape.iter().product()))).collect();
    let views = tensors.iter().map(|(name, shape, data)| (name, TensorView::new(dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn precision_and_other_tensors_do_not_change_the_canonical_bytes() {
    use safetensors::Dtype;
    let half = canonical(&safetensors_file(Dtype::F16, &[0x00, 0x38], Some(3), &[])).unwrap();
    let tracked = ["module.features.norm0.num_batches_tracked"];
    let double = canonical(&safetensors_file(Dtype::F64, &0.5f64.to_le_bytes(), Some(3), &tracked)).unwrap();
    assert_eq!(half, double);
    assert_eq!((half.arch, half.tensors, half.classes), (Arch::Densenet121, 606, Some(3)));
    assert_eq!(canonical(&half.bytes).unwrap(), half);
    let file = SafeTensors::deserialize(&half.bytes).unwrap();
    let (names, sorted) = (file.names(), shapes(Arch::Densenet121, Some(3)));
    assert_eq!(names.len(), sorted.len());
    assert!(file.tensors().iter().all(|(name, view)| sorted[name] == view.shape() && view.dtype() == Dtype::F32));
}

#[test]
fn wrong_weights_are_refused_by_name() {
    use safetensors::Dtype;
    let zero = 0f32.to_le_bytes();
    let cases = [
        safetensors_file(Dtype::F32, &f32::NAN.to_le_bytes(), None, &[]),
        safetensors_file(Dtype::I32, &zero, None, &[]),
        safetensors_file(Dtype::F32, &zero, Some(1), &["a.weight"]),
        safetensors_file(Dtype::F32, &zero, None, &["module.features.norm5.bias"]),
        safetensors_file(Dtype::F32, &zero, None, &[])[..100_000].to_vec(),
        b"not weights".to_vec(),
    ];
    let text = cases.map(|bytes| canonical(&bytes).unwrap_err().to_string()).join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn a_refused_file_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.pth"), folder.path().join("out.safetensors"));
    fs::write(&input, ZIP).unwrap();
    assert!(convert(&input, &output).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = convert(&folder.path().join("none"), &output).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("none"), "{error}");
}

proptest! {
    #[test]
    fn a_changed_file_never_panics(
        which in 0usize..3, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = [ZIP, LEGACY, CHECKPOINT][which].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = any_container(&bytes);
        let _ = canonical(&bytes);
    }

    #[test]
    fn any_instructions_are_survived(code in prop::collection::vec(
        prop::sample::select(b"\x80\x02(NKMJ\x8aGXTU\x8cqr\x94hj)]}t\x85\x86\x87aesuc\x93QRb.\0\x01abc\n".to_vec()), 0..200,
    )) {
        let _ = pickle::read(&code);
    }
}

#[test]
fn every_cut_is_an_error() {
    for length in 0..LEGACY.len() {
        assert!(any_container(&LEGACY[..length]).is_err(), "{length}");
    }
    for length in 4..ZIP.len() {
        assert!(any_container(&ZIP[..length]).is_err(), "{length}");
    }
}

#[test]
fn the_stand_in_weights_convert() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("CETERIS_SHARED_DIR").map_or_else(beside, PathBuf::from);
    let input = shared.join("weights/densenet121-distilled.safetensors");
    if !input.is_file() {
        eprintln!("skipped: the_stand_in_weights_convert needs the shared weights folder (CETERIS_SHARED_DIR)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let converted = convert(&input, &first).unwrap();
    assert_eq!((converted.arch, converted.tensors, converted.classes), (Arch::Densenet121, 604, None));
    assert_eq!(convert(&first, &second).unwrap().digest, converted.digest);
}

#[test]
fn weights_of_every_known_network_are_read_from_a_file() {
    for (arch, tensors) in [(Arch::Densenet169, 846), (Arch::Resnet50, 267)] {
        let shapes = shapes(arch, Some(2));
        let data: Vec<Vec<u8>> = shapes.values().map(|shape| vec![0; 2 * shape.iter().product::<usize>()]).collect();
        let views = shapes.iter().zip(&data).map(|((name, shape), data)| {
            (format!("module.{name}"), TensorView::new(safetensors::Dtype::F16, shape.clone(), data).unwrap())
        });
        let canonical = canonical(&safetensors::serialize(views, None).unwrap()).unwrap();
        assert_eq!((canonical.arch, canonical.tensors, canonical.classes), (arch, tensors, Some(2)));
        let file = SafeTensors::deserialize(&canonical.bytes).unwrap();
        assert!(file.tensors().iter().all(|(name, view)| shapes[name] == view.shape()));
    }
}

/// Makes DenseNet121 with random weights and BatchNorm statistics, and saves it in every way, to the folder argv[1].
const SAVE: &str = r#"
import re, sys, torch, torchvision
torch.manual_seed(0)
model = torchvision.models.densenet121(weights=None, num_classes=5)
for name, buffer in model.named_buffers():
    if "running" in name: buffer.uniform_(0.5, 1.5)
state = model.state_dict()
old = lambda name: re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name)
folder = sys.argv[1] + "/"
torch.save(state, folder + "zip.pth")
torch.save(state, folder + "legacy.pth", _use_new_zipfile_serialization=False)
torch.save({old(k): v for k, v in state.items() if "num_batches" not in k}, folder + "old.pth", _use_new_zipfile_serialization=False)
torch.save({"epoch": 3, "state_dict": torch.nn.DataParallel(model).state_dict()}, folder + "module.pth")
torch.save({k: v.double() if v.is_floating_point() else v for k, v in state.items()}, folder + "double.pth")
torch.save(state, folder + "protocol4.pth", pickle_protocol=4)
torch.save(dict(model.named_parameters()) | dict(model.named_buffers()), folder + "parameters.pth")
torch.save(model.half().state_dict(), folder + "half.pth")
torch.save(model, folder + "model.pth")
"#;

/// Loads the safetensors file argv[1] into torchvision's model and compares it with argv[2].
const COMPARE: &str = r#"
import json, struct, sys, torch, torchvision
data = open(sys.argv[1], "rb").read()
length = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + length])
state = {}
for name, entry in header.items():
    start, end = entry["data_offsets"]
    assert entry["dtype"] == "F32"
    state[name] = torch.frombuffer(bytearray(data[8 + length + start:8 + length + end]), dtype=torch.float32).reshape(entry["shape"])
model = torchvision.models.densenet121(weights=None, num_classes=5)
missing, unexpected = model.load_state_dict(state, strict=False)
assert not unexpected and all("num_batches_tracked" in name for name in missing), (missing, unexpected)
for name, value in torch.load(sys.argv[2]).items():
    assert "num_batches" in name or torch.equal(value.float(), state[name]), name
"#;

fn python(python: &str, code: &str, arguments: &[&Path]) {
    let output = Command::new(python).arg("-c").arg(code).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn pytorchs_own_files_convert_to_equal_tensors() {
    let Ok(reference) = std::env::var("CETERIS_REFERENCE_PYTHON") else {
        eprintln!(
            "skipped: pytorchs_own_files_convert_to_equal_tensors needs a Python with torch and torchvision \
             (CETERIS_REFERENCE_PYTHON)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    python(&reference, SAVE, &[folder.path()]);
    let plain = convert(&at("zip.pth"), &at("zip.safetensors")).unwrap();
    assert_eq!((plain.tensors, plain.classes), (606, Some(5)));
    python(&reference, COMPARE, &[&at("zip.safetensors"), &at("zip.pth")]);
    for same in ["legacy.pth", "old.pth", "module.pth", "double.pth", "protocol4.pth", "parameters.pth"] {
        assert_eq!(convert(&at(same), &at("other.safetensors")).unwrap().digest, plain.digest, "{same}");
    }
    convert(&at("half.pth"), &at("half.safetensors")).unwrap();
    python(&reference, COMPARE, &[&at("half.safetensors"), &at("half.pth")]);
    let whole_model = convert(&at("model.pth"), &at("other.safetensors")).unwrap_err().to_string();
    assert!(whole_model.contains("torchvision.models.densenet.DenseNet"), "{whole_model}");
}
