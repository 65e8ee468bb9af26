//! Runs a coordinator's tasks on one thread, in an order that the world's chance decides.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::random::Random;

/// Set when a task can go on.
#[derive(Debug)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Flag>,
}

/// Tasks that are not done.
#[derive(Default)]
pub struct Tasks {
    tasks: BTreeMap<u64, Task>,
    next: u64,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// Adds a task; it can go on at once.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + Send + 'static) -> u64 {
        let id = self.next;
        self.next += 1;
        self.tasks.insert(id, Task { future: Box::pin(future), woken: Arc::new(Flag(AtomicBool::new(true))) });
        id
    }

    /// Says that a task can go on.
    pub fn wake(&self, id: u64) {
        if let Some(task) = self.tasks.get(&id) {
            task.woken.0.store(true, Ordering::SeqCst);
        }
    }

    /// Lets one task that can go on do so; false when there is none.
    pub fn step(&mut self, random: &Random) -> bool {
        let woken = self.tasks.iter().filter(|(_, task)| task.woken.0.load(Ordering::SeqCst));
        let woken: Vec<u64> = woken.map(|(&id, _)| id).collect();
        let Some(&id) = (if woken.len() > 1 { random.pick(&woken) } else { woken.first() }) else { return false };
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        task.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&task.woken));
        if let Poll::Ready(()) = task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.tasks.remove(&id);
        }
        true
    }
}
