//! How much memory each slot has to train in: what the coordinator is told, so that nothing is sent where it cannot fit.

use std::fs;

/// Where a container's limit stands (control groups, version 2 and version 1).
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The least that any slot has: its device's own memory, or where the device has none its part of the machine's.
pub(crate) fn of_each_slot(devices: &[Option<u64>], machine: u64) -> Option<u64> {
    let part = machine / devices.len().max(1) as u64;
    devices.iter().map(|device| device.unwrap_or(part)).min().filter(|bytes| *bytes > 0)
}

/// Bytes of memory that processes of this machine, or of this container, may have.
pub(crate) fn of_machine() -> u64 {
    let system = rustix::system::sysinfo();
    // Its fields' types are the platform's.
    #[allow(clippy::unnecessary_cast)]
    let total = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit.max(1)));
    let limits = LIMIT_FILES.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.fold(total, u64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_its_own_and_processors_share() {
        assert_eq!(of_each_slot(&[Some(80), Some(24)], 100), Some(24));
        assert_eq!(of_each_slot(&[None, None, None, None], 100), Some(25));
        assert_eq!(of_each_slot(&[Some(80), None], 100), Some(50));
        assert_eq!(of_each_slot(&[None], 0), None);
        assert_eq!(of_each_slot(&[], 100), None);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(of_machine() > 64 << 20);
    }
}
