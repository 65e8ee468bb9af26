use std::time::Instant;
use burn::tensor::{Tensor, TensorData, activation::log_softmax, Int};
use ceteris_shared::architecture::{Arch, Part};
use ceteris_train::{backend::{self, Compute, DeviceName, Float}, model::{Network, random}};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let batch: usize = a[1].parse().unwrap();
    let float = match a[2].as_str() { "fp32" => Float::Fp32, "bf16" => Float::Bf16, _ => Float::Fp64 };
    let channels_last = a[3] == "cl";
    let low_memory = a[4] == "low";
    let rounds: usize = a[5].parse().unwrap();
    let threads: u32 = a[6].parse().unwrap();
    let device = backend::open(DeviceName::Cpu, threads).unwrap();
    let state = random(Arch::Densenet121, 1, 2);
    let compute = Compute { float, channels_last, low_memory };
    let mut network = Network::new(&state, Arch::Densenet121, 2, Part::Stem, compute, &device).unwrap();
    let n = batch * 3 * 224 * 224;
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919 % 10007) as f32 / 5003.0) - 1.0).collect();
    let labels: Vec<i64> = (0..batch as i64).map(|i| i % 2).collect();
    for round in 0..rounds {
        let began = Instant::now();
        let images = Tensor::<4>::from_data(TensorData::new(values.clone(), [batch, 3, 224, 224]), &device);
        let images = network.features(images);
        let parameters = network.parameters().autodiff().require_grad();
        let logits = network.logits_in_training(parameters.clone(), images.autodiff());
        let own = Tensor::<2, Int>::from_data(TensorData::new(labels.clone(), [batch, 1]), &logits.device());
        let loss = log_softmax(logits, 1).gather(1, own).mean().neg();
        let value = loss.clone().into_scalar::<f32>();
        let forward = began.elapsed().as_secs_f64();
        let mut gradients = loss.backward();
        let gradient = parameters.grad_remove(&mut gradients).unwrap();
        let norm = gradient.clone().powf_scalar(2.0).sum().sqrt().into_scalar::<f32>();
        println!("{round} loss {value} norm {norm} forward {forward:.3} total {:.3}", began.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
