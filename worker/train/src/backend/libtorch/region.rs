//! One differentiable operation of burn's whose body runs under libtorch's own autograd.
//!
//! burn-tch builds the backward pass of a normalisation and of a convolution from primitive operations, which costs as
//! much time again as the forward pass. Here burn sees a single operation, from an input and one flat tensor of
//! parameters to an output; inside, stage by stage, libtorch records and differentiates with its own kernels. Stages are
//! recorded each on their own, so that backward can drop one stage's tape before it needs the next, add gradients of a
//! shared activation in place, or keep nothing but activations and record a stage again when its turn comes
//! (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
//!
//! burn and libtorch count references apart: what is handed to burn is detached, and owns its memory.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use burn::backend::{
    Autodiff, Backend, Dispatch, LibTorch,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn_tch::TchTensor;
use tch::Tensor;

use super::operations::Pass;

/// What a region computes: stages that each make one activation of those that are alive.
pub(super) trait Program: fmt::Debug + Send + Sync {
    /// Shapes of the parameters, in the flat tensor's order.
    fn shapes(&self) -> &[Vec<i64>];
    /// The stages, in forward order.
    fn stages(&self) -> &[Stage];
    /// Whether a stage is computed again in backward instead of being recorded in forward.
    fn replays(&self, stage: usize) -> bool;
    /// What the first stage reads, made of the region's input.
    fn input(&self, input: &Tensor) -> Tensor;
    /// Computes a stage from the activations that are alive and its own parameters.
    fn run(&self, stage: usize, inputs: &[&Tensor], parameters: &[Tensor], pass: Pass) -> Tensor;
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// Its parameters: positions in [`Program::shapes`].
    pub parameters: Range<usize>,
    /// Whether its output joins the activations that are alive, or replaces them.
    pub joins: bool,
}

/// The operation.
#[backend_extension(LibTorch, Autodiff)]
pub(super) trait Region: Backend {
    /// Runs a program on `input` with the flat `parameters`.
    fn region(input: FloatTensor<Self>, parameters: FloatTensor<Self>, program: Arc<dyn Program>) -> FloatTensor<Self>;
}

impl Region for LibTorch {
    fn region(input: TchTensor, parameters: TchTensor, program: Arc<dyn Program>) -> TchTensor {
        let _guard = tch::no_grad_guard();
        let parameters = cut(&parameters.tensor, program.shapes());
        let mut alive = vec![program.input(&input.tensor)];
        for (index, stage) in program.stages().iter().enumerate() {
            let inputs: Vec<&Tensor> = alive.iter().collect();
            let output = program.run(index, &inputs, &parameters[stage.parameters.clone()], Pass::First);
            if !stage.joins {
                alive.clear();
            }
            alive.push(output);
        }
        owned(alive.pop().expect("every stage makes an activation"))
    }
}

impl<C: CheckpointStrategy> Region for Autodiff<LibTorch, C> {
    fn region(input: FloatTensor<Self>, parameters: FloatTensor<Self>, program: Arc<dyn Program>) -> FloatTensor<Self> {
        let wanted = [input.is_tracked(), parameters.is_tracked()];
        let nodes = [input.node(), parameters.node()];
        let (input, parameters) = (input.into_parts().0, parameters.into_parts().0);
        match RegionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(operation) => operation.finish(LibTorch::region(input, parameters, program)),
            OpsKind::Tracked(operation) => {
                let (output, tape) = Tape::record(input, parameters, wanted, program);
                operation.finish(State(Arc::new(Mutex::new(Some(tape)))), output)
            }
        }
    }
}

#[derive(Debug)]
struct RegionBackward;

/// burn asks for a state that can be cloned; a tape can be used once.
#[derive(Clone)]
struct State(Arc<Mutex<Option<Tape>>>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a region's tape")
    }
}

impl Backward<LibTorch, 2> for RegionBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<LibTorch>(&ops.node);
        let tape = ops.state.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tape = tape.expect("burn runs an operation's backward once");
        let [input, parameters] = tape.backward(&gradient.tensor);
        for (parent, gradient) in ops.parents.iter().zip([input, parameters]) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<LibTorch>(parent.id, owned(gradient));
            }
        }
    }
}

/// What forward leaves for backward.
struct Tape {
    program: Arc<dyn Program>,
    /// burn's handles, so that burn reuses no memory that the tape points at.
    held: [TchTensor; 2],
    wanted: [bool; 2],
    /// The region's input, then each stage's output; none has a history.
    activations: Vec<Tensor>,
    /// What libtorch recorded of each stage; none of those that are computed again.
    recorded: Vec<Option<Recorded>>,
}

/// A stage as libtorch recorded it.
struct Recorded {
    output: Tensor,
    inputs: Vec<Tensor>,
    parameters: Vec<Tensor>,
}

impl Tape {
    fn record(
        input: TchTensor,
        parameters: TchTensor,
        wanted: [bool; 2],
        program: Arc<dyn Program>,
    ) -> (TchTensor, Self) {
        let _guard = tch::no_grad_guard();
        let activations = vec![program.input(&input.tensor)];
        let mut tape = Self { program, held: [input, parameters], wanted, activations, recorded: Vec::new() };
        let parameters = cut(&tape.held[1].tensor, tape.program.shapes());
        let mut alive = vec![0];
        for (index, stage) in tape.program.stages().to_vec().iter().enumerate() {
            let own = &parameters[stage.parameters.clone()];
            let output = if tape.program.replays(index) {
                let inputs: Vec<&Tensor> = alive.iter().map(|at: &usize| &tape.activations[*at]).collect();
                tape.recorded.push(None);
                tape.program.run(index, &inputs, own, Pass::First)
            } else {
                let recorded = tape.run_recorded(index, &alive, own, Pass::First);
                let output = recorded.output.detach();
                tape.recorded.push(Some(recorded));
                output
            };
            tape.activations.push(output);
            follow(&mut alive, stage, index);
        }
        let output = tape.activations.pop().expect("every stage makes an activation");
        (owned(output), tape)
    }

    /// Runs a stage on leaves of its own.
    fn run_recorded(&self, stage: usize, alive: &[usize], parameters: &[Tensor], pass: Pass) -> Recorded {
        let input_wanted = |at: usize| at > 0 || self.wanted[0];
        let inputs: Vec<Tensor> =
            alive.iter().map(|at| self.activations[*at].detach().set_requires_grad(input_wanted(*at))).collect();
        let parameters: Vec<Tensor> =
            parameters.iter().map(|tensor| tensor.detach().set_requires_grad(self.wanted[1])).collect();
        let references: Vec<&Tensor> = inputs.iter().collect();
        let output = tch::with_grad(|| self.program.run(stage, &references, &parameters, pass));
        Recorded { output, inputs, parameters }
    }

    /// Gradients of the input and of the flat parameters, where they are wanted.
    fn backward(mut self, gradient: &Tensor) -> [Option<Tensor>; 2] {
        let _guard = tch::no_grad_guard();
        let program = Arc::clone(&self.program);
        let stages = program.stages();
        let parameters = cut(&self.held[1].tensor, program.shapes());
        let mut of_parameters: Vec<Option<Tensor>> = parameters.iter().map(|_| None).collect();
        let mut of_activations: Vec<Option<Tensor>> = (0..=stages.len()).map(|_| None).collect();
        of_activations[stages.len()] = Some(gradient.shallow_clone());
        for (index, stage) in stages.iter().enumerate().rev() {
            let alive = alive_before(stages, index);
            let recorded = match self.recorded.pop().flatten() {
                Some(recorded) => recorded,
                None => self.run_recorded(index, &alive, &parameters[stage.parameters.clone()], Pass::Replay),
            };
            // An activation is not needed below the stage that made it.
            self.activations.truncate(index + 1);
            let Some(gradient) = of_activations[index + 1].take() else { continue };
            let Recorded { output, inputs, parameters } = recorded;
            let leaves = inputs.iter().chain(&parameters);
            let made = differentiate(output, &gradient, leaves.filter(|leaf| leaf.requires_grad()).collect());
            let mut made = made.into_iter();
            for (at, _) in alive.iter().zip(&inputs).filter(|(_, leaf)| leaf.requires_grad()) {
                add(&mut of_activations[*at], made.next().filter(Tensor::defined));
            }
            for (at, _) in stage.parameters.clone().zip(&parameters).filter(|(_, leaf)| leaf.requires_grad()) {
                of_parameters[at] = made.next().filter(Tensor::defined);
            }
        }
        let flat = self.wanted[1].then(|| flatten(of_parameters, &parameters));
        let input = of_activations[0].take().map(|gradient| gradient.to_kind(self.held[0].tensor.kind()));
        [input, flat]
    }
}

/// The gradients of sum(output × gradient), which are those of `output` weighted by `gradient`: tch passes no gradient
/// to a root that is no scalar.
fn differentiate(output: Tensor, gradient: &Tensor, leaves: Vec<&Tensor>) -> Vec<Tensor> {
    if leaves.is_empty() {
        return Vec::new();
    }
    let root = tch::with_grad(|| (&output * gradient).sum(output.kind()));
    drop(output);
    Tensor::run_backward(&[root], &leaves, false, false)
}

/// The activations that stage `index` reads: 0 is the input, `n` the output of the n-th stage.
fn alive_before(stages: &[Stage], index: usize) -> Vec<usize> {
    let mut alive = vec![0];
    for (at, stage) in stages[..index].iter().enumerate() {
        follow(&mut alive, stage, at);
    }
    alive
}

fn follow(alive: &mut Vec<usize>, stage: &Stage, index: usize) {
    if !stage.joins {
        alive.clear();
    }
    alive.push(index + 1);
}

/// Adds in place. Gradients of one stage's inputs are views that do not overlap.
fn add(sum: &mut Option<Tensor>, gradient: Option<Tensor>) {
    match (sum, gradient) {
        (_, None) => {}
        (Some(sum), Some(gradient)) => {
            let _ = sum.g_add_(&gradient);
        }
        (sum @ None, Some(gradient)) => *sum = Some(gradient),
    }
}

/// The flat tensor, cut into views of the given shapes.
pub(super) fn cut(flat: &Tensor, shapes: &[Vec<i64>]) -> Vec<Tensor> {
    let mut start = 0;
    shapes
        .iter()
        .map(|shape| {
            let length: i64 = shape.iter().product();
            let view = flat.narrow(0, start, length).view(shape.as_slice());
            start += length;
            view
        })
        .collect()
}

/// One flat gradient; what has none has zeros.
fn flatten(gradients: Vec<Option<Tensor>>, parameters: &[Tensor]) -> Tensor {
    let pieces: Vec<Tensor> = gradients
        .into_iter()
        .zip(parameters)
        .map(|(gradient, parameter)| gradient.unwrap_or_else(|| parameter.zeros_like()).reshape([-1]))
        .collect();
    Tensor::cat(&pieces, 0)
}

/// A tensor for burn, which decides by its own count of references whether memory may be reused.
fn owned(tensor: Tensor) -> TchTensor {
    TchTensor::new(tensor.detach())
}

/// Runs `program` on burn's tensors, differentiably.
pub(super) fn run(
    input: burn::tensor::Tensor<4>,
    parameters: burn::tensor::Tensor<1>,
    program: Arc<dyn Program>,
) -> burn::tensor::Tensor<2> {
    let output = <Dispatch as Region>::region(input.into_dispatch(), parameters.into_dispatch(), program);
    burn::tensor::Tensor::from_dispatch(output)
}
