//! A pickle machine that can describe a state dict and do nothing else.
//!
//! It knows the instructions of protocols 2 to 4 that `torch.save` emits for dicts, lists, tuples, numbers, texts and
//! tensors, and eight functions of Python, none of which is called: `OrderedDict` makes a dict, a tensor's constructor
//! makes a [`TensorRef`]. Every other instruction or function is an error that names it.
//!
//! Values live in an arena and refer to each other by index, so neither building nor dropping a deeply nested or
//! self-referential pickle recurses. Every instruction takes at least one byte and makes at most one value, so memory
//! is bounded by [`MAX_BYTES`].

use std::{collections::HashMap, rc::Rc};

use super::tensor::Dtype;

/// The longest pickle that is read. DenseNet121's state dict has about 100 kB, with an optimizer's state 300 kB.
pub const MAX_BYTES: usize = 4 << 20;
/// The most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// Why a pickle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("it asks for {0}, which a state dict does not need; save model.state_dict() and nothing else")]
    Forbidden(String),
    #[error("it holds the pickle instruction {0:#04x}, which a state dict does not need")]
    Instruction(u8),
    #[error("its pickle is cut, or longer than {MAX_BYTES} bytes")]
    Truncated,
    #[error("its pickle is malformed: {0}")]
    Malformed(&'static str),
}

/// An element type and an amount of data, named by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRef {
    pub dtype: Dtype,
    pub key: Rc<str>,
    /// Elements.
    pub count: usize,
}

/// A view of a storage, as the pickle describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    pub storage: Rc<StorageRef>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A value. Lists, tuples and dicts are indices into the arena of their [`Pickle`].
#[derive(Clone, Debug)]
pub enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float,
    Text(Rc<str>),
    Sequence(usize),
    Dict(usize),
    Function(Function),
    Storage(Rc<StorageRef>),
    Tensor(Rc<TensorRef>),
}

/// The functions that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    Storage(Dtype),
}

impl Function {
    fn named(module: &str, name: &str) -> Result<Self, Error> {
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor") => Ok(Self::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Self::RebuildTensorV2),
            ("torch._utils", "_rebuild_parameter") => Ok(Self::RebuildParameter),
            ("torch", storage) => {
                let dtype = match storage {
                    "DoubleStorage" => Dtype::F64,
                    "FloatStorage" => Dtype::F32,
                    "HalfStorage" => Dtype::F16,
                    "BFloat16Storage" => Dtype::Bf16,
                    "LongStorage" => Dtype::I64,
                    "IntStorage" => Dtype::I32,
                    "ShortStorage" => Dtype::I16,
                    "CharStorage" => Dtype::I8,
                    "ByteStorage" => Dtype::U8,
                    "BoolStorage" => Dtype::Bool,
                    _ => return Err(forbidden(module, name)),
                };
                Ok(Self::Storage(dtype))
            }
            _ => Err(forbidden(module, name)),
        }
    }
}

fn forbidden(module: &str, name: &str) -> Error {
    Error::Forbidden(format!("{module}.{name}").escape_debug().take(120).collect())
}

#[derive(Debug)]
enum Node {
    Sequence(Vec<Value>),
    Dict(Vec<(Value, Value)>),
}

/// A value with all that it refers to.
#[derive(Debug)]
pub struct Pickle {
    /// The value.
    pub root: Value,
    arena: Vec<Node>,
    /// Every storage that is referred to, by key.
    pub storages: HashMap<Rc<str>, Rc<StorageRef>>,
    /// Bytes that it took.
    pub length: usize,
}

impl Pickle {
    /// The elements of a list or a tuple.
    pub fn sequence(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Sequence(at) => sequence(&self.arena, *at),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(at) => match self.arena.get(*at) {
                Some(Node::Dict(entries)) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// The last entry of a dict with the text `key`.
    pub fn get(&self, dict: &Value, key: &str) -> Option<&Value> {
        let entries = self.dict(dict)?.iter().rev();
        entries.into_iter().find(|(k, _)| matches!(k, Value::Text(text) if **text == *key)).map(|(_, value)| value)
    }
}

fn sequence(arena: &[Node], at: usize) -> Option<&[Value]> {
    match arena.get(at) {
        Some(Node::Sequence(items)) => Some(items),
        _ => None,
    }
}

/// Reads the pickle that `bytes` begin with.
///
/// # Errors
/// When it is cut, malformed, or does anything that describing a state dict does not need.
pub fn read(bytes: &[u8]) -> Result<Pickle, Error> {
    let mut machine = Machine { bytes: &bytes[..bytes.len().min(MAX_BYTES)], ..Machine::default() };
    loop {
        let instruction = machine.byte()?;
        if instruction == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { root, arena: machine.arena, storages: machine.storages, length: machine.at });
        }
        machine.step(instruction)?;
    }
}

#[derive(Default)]
struct Machine<'file> {
    bytes: &'file [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    arena: Vec<Node>,
    storages: HashMap<Rc<str>, Rc<StorageRef>>,
    /// Entries that were copied from a list into a dict, the only thing that could grow faster than the pickle.
    copied: usize,
}

impl<'file> Machine<'file> {
    fn step(&mut self, instruction: u8) -> Result<(), Error> {
        match instruction {
            0x80 => self.protocol(),
            0x95 => self.take(8).map(drop), // FRAME: a hint for readers of streams
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a => self.int(instruction),
            b'G' => self.take(8).map(drop).and_then(|()| self.push(Value::Float)),
            b'X' | b'T' | b'U' | 0x8c => self.text(instruction),
            b'q' | b'r' | 0x94 => self.put(instruction),
            b'h' | b'j' => self.get(instruction),
            b')' => self.make_sequence(Vec::new()),
            b']' => self.make_sequence(Vec::new()),
            b'}' => self.make_dict(Vec::new()),
            b't' => self.pop_to_mark().and_then(|items| self.make_sequence(items)),
            0x85..=0x87 => self.short_tuple(usize::from(instruction - 0x84)),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.pop_to_mark().and_then(|items| self.append(items)),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![key, value])
            }
            b'u' => self.pop_to_mark().and_then(|items| self.set(items)),
            b'c' | 0x93 => self.function(instruction),
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            other => Err(Error::Instruction(other)),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'file [u8], Error> {
        let end = self.at.checked_add(count).ok_or(Error::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn line(&mut self) -> Result<&'file str, Error> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(Error::Truncated)?;
        let line = &self.take(length + 1)?[..length];
        std::str::from_utf8(line).map_err(|_| Error::Malformed("a name is not UTF-8"))
    }

    fn push(&mut self, value: Value) -> Result<(), Error> {
        self.stack.push(value);
        Ok(())
    }

    /// The top of the stack, which may not lie below the last mark.
    fn pop(&mut self) -> Result<Value, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => Err(Error::Malformed("its stack is empty")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Error> {
        let mark = self.marks.pop().ok_or(Error::Malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn protocol(&mut self) -> Result<(), Error> {
        match self.byte()? {
            2..=4 => Ok(()),
            _ => Err(Error::Malformed("its protocol is not 2, 3 or 4")),
        }
    }

    fn int(&mut self, instruction: u8) -> Result<(), Error> {
        let value = match instruction {
            b'K' => self.byte()?.into(),
            b'M' => {
                let bytes = self.take(2)?;
                u16::from_le_bytes([bytes[0], bytes[1]]).into()
            }
            b'J' => (self.u32()? as i32).into(),
            _ => {
                let length = usize::from(self.byte()?);
                let bytes = self.take(length)?;
                if length > 16 {
                    return Err(Error::Malformed("a number has more than 128 bits"));
                }
                let negative = bytes.last().is_some_and(|last| *last >= 0x80);
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                wide[..length].copy_from_slice(bytes);
                i128::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(value))
    }

    /// Texts; `T` and `U` are Python 2's byte strings, which hold ASCII in old state dicts.
    fn text(&mut self, instruction: u8) -> Result<(), Error> {
        let length = match instruction {
            b'X' | b'T' => self.u32()? as usize,
            _ => usize::from(self.byte()?),
        };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Error::Malformed("a text is not UTF-8"))?;
        self.push(Value::Text(text.into()))
    }

    fn put(&mut self, instruction: u8) -> Result<(), Error> {
        let slot = match instruction {
            b'q' => self.byte()?.into(),
            b'r' => self.u32()?,
            _ => self.memo.len() as u32,
        };
        let value = self.stack.last().ok_or(Error::Malformed("its stack is empty"))?.clone();
        self.memo.insert(slot, value);
        Ok(())
    }

    fn get(&mut self, instruction: u8) -> Result<(), Error> {
        let slot = if instruction == b'h' { self.byte()?.into() } else { self.u32()? };
        let value = self.memo.get(&slot).ok_or(Error::Malformed("it recalls what it did not keep"))?.clone();
        self.push(value)
    }

    fn make_sequence(&mut self, items: Vec<Value>) -> Result<(), Error> {
        self.arena.push(Node::Sequence(items));
        self.push(Value::Sequence(self.arena.len() - 1))
    }

    fn make_dict(&mut self, entries: Vec<(Value, Value)>) -> Result<(), Error> {
        self.arena.push(Node::Dict(entries));
        self.push(Value::Dict(self.arena.len() - 1))
    }

    fn short_tuple(&mut self, count: usize) -> Result<(), Error> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.make_sequence(items)
    }

    fn append(&mut self, mut more: Vec<Value>) -> Result<(), Error> {
        match self.stack.last() {
            Some(Value::Sequence(at)) => match self.arena.get_mut(*at) {
                Some(Node::Sequence(items)) => items.append(&mut more),
                _ => return Err(Error::Malformed("it appends to what is no list")),
            },
            _ => return Err(Error::Malformed("it appends to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Result<(), Error> {
        const FAULT: Error = Error::Malformed("it sets entries of what is no dict");
        let Some(Value::Dict(at)) = self.stack.last() else { return Err(FAULT) };
        let Some(Node::Dict(entries)) = self.arena.get_mut(*at) else { return Err(FAULT) };
        let mut items = items.into_iter();
        while let Some(key) = items.next() {
            entries.push((key, items.next().ok_or(Error::Malformed("a key has no value"))?));
        }
        Ok(())
    }

    fn function(&mut self, instruction: u8) -> Result<(), Error> {
        let function = if instruction == b'c' {
            let module = self.line()?;
            Function::named(module, self.line()?)?
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => Function::named(&module, &name)?,
                _ => return Err(Error::Malformed("a function's name is no text")),
            }
        };
        self.push(Value::Function(function))
    }

    fn items(&self, value: &Value) -> Result<&[Value], Error> {
        match value {
            Value::Sequence(at) => sequence(&self.arena, *at),
            _ => None,
        }
        .ok_or(Error::Malformed("arguments are no tuple"))
    }

    /// A persistent id: `("storage", type, key, location, count)`, in old files followed by a view, which must be none.
    fn storage(&mut self) -> Result<(), Error> {
        let id = self.pop()?;
        let (dtype, key, count) = match self.items(&id)? {
            [Value::Text(kind), Value::Function(Function::Storage(dtype)), Value::Text(key), Value::Text(_), count]
            | [
                Value::Text(kind),
                Value::Function(Function::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                count,
                Value::None,
            ] if **kind == *"storage" => (*dtype, key.clone(), size(count)?),
            _ => return Err(Error::Malformed("a storage is not described as torch.save does")),
        };
        let storage = StorageRef { dtype, key: key.clone(), count };
        let known = self.storages.entry(key).or_insert_with(|| Rc::new(storage.clone()));
        if **known != storage {
            return Err(Error::Malformed("a storage is described in two ways"));
        }
        let known = known.clone();
        self.push(Value::Storage(known))
    }

    fn reduce(&mut self) -> Result<(), Error> {
        const FAULT: Error = Error::Malformed("a tensor is not described as torch.save does");
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Function(function) = function else { return Err(Error::Malformed("it calls what is no function")) };
        let arguments = self.items(&arguments)?;
        match (function, arguments) {
            (Function::OrderedDict, []) => self.make_dict(Vec::new()),
            (Function::OrderedDict, [pairs]) => {
                let entries = self.pairs(pairs)?;
                self.copied += entries.len();
                if self.copied > MAX_BYTES {
                    return Err(Error::Malformed("it copies one list again and again"));
                }
                self.make_dict(entries)
            }
            (Function::RebuildTensor, [storage, offset, shape, strides])
            | (
                Function::RebuildTensorV2,
                [storage, offset, shape, strides, _, _] | [storage, offset, shape, strides, _, _, _],
            ) => {
                let Value::Storage(storage) = storage else { return Err(FAULT) };
                let tensor = TensorRef {
                    storage: storage.clone(),
                    offset: size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                self.push(Value::Tensor(Rc::new(tensor)))
            }
            (Function::RebuildParameter, [tensor @ Value::Tensor(_), _, _]) => {
                let tensor = tensor.clone();
                self.push(tensor)
            }
            _ => Err(FAULT),
        }
    }

    /// Python 2 writes an `OrderedDict` as one list of pairs.
    fn pairs(&self, list: &Value) -> Result<Vec<(Value, Value)>, Error> {
        let pair = |item: &Value| match self.items(item)? {
            [key, value] => Ok((key.clone(), value.clone())),
            _ => Err(Error::Malformed("an entry of a dict is no pair")),
        };
        self.items(list)?.iter().map(pair).collect()
    }

    fn sizes(&self, tuple: &Value) -> Result<Vec<usize>, Error> {
        let sizes = self.items(tuple)?;
        if sizes.len() > MAX_DIMENSIONS {
            return Err(Error::Malformed("a tensor has too many dimensions"));
        }
        sizes.iter().map(size).collect()
    }

    /// Attributes of a dict, such as the `_metadata` of a state dict; they are of no use here.
    fn build(&mut self) -> Result<(), Error> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(Error::Malformed("it sets attributes of what is no dict")),
        }
    }
}

fn size(value: &Value) -> Result<usize, Error> {
    match value {
        Value::Int(value) => usize::try_from(*value).map_err(|_| Error::Malformed("a size is negative or too large")),
        _ => Err(Error::Malformed("a size is no number")),
    }
}
