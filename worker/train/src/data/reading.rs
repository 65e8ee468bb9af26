//! How many images a thread reads: what a benchmark times.

use super::{Assembler, Dataset, Plan};

/// Makes the plan's batches one after the other on the calling thread, again and again from the first, for as long as
/// `go_on` says so after each. Returns the number of images made.
pub fn read_repeatedly(dataset: &Dataset, plan: &Plan, mut go_on: impl FnMut() -> bool) -> u64 {
    let mut assembler = Assembler::new(dataset);
    let mut images = 0;
    for range in plan.batches.iter().cycle() {
        let batch = assembler.assemble(plan, range.clone());
        // Without this a compiler may see that nobody reads what was written.
        std::hint::black_box(&batch.images[..]);
        images += batch.samples.len() as u64;
        if !go_on() {
            break;
        }
    }
    images
}
