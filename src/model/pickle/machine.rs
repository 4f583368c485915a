//! The stack machine: one method per group of opcodes.

use std::borrow::Cow;
use std::collections::HashMap;

use super::escapes::{unescape, unescape_text};
use super::{Global, Object, Value};
use crate::{Error, Result};

/// More opcodes and entries than any body model has; an array counts once, whatever its size.
const MAX_ITEMS: usize = 1 << 20;
/// Bytes quoted of a name in an error.
const QUOTED: usize = 80;

/// Runs a pickle up to STOP; what follows is ignored, as Python does.
pub(super) fn run(bytes: &[u8]) -> Result<(Vec<Object<'_>>, Value)> {
    let mut machine = Machine { rest: bytes, ..Machine::default() };
    let root = machine.run()?;
    Ok((machine.objects, root))
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object<'a>>,
    stack: Vec<Value>,
    /// Where each open MARK stands on the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    items: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value> {
        loop {
            self.charge(1)?;
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => self.protocol()?,
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => self.pop_anything()?,
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => self.push(*self.stack.last().ok_or_else(|| damaged("the stack is empty"))?),

                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'I' | b'L' => self.decimal_integer()?,
                b'K' | b'M' | b'J' | 0x8a | 0x8b => self.binary_integer(opcode)?,
                b'F' => self.decimal_float()?,
                b'G' => {
                    let float = f64::from_be_bytes(self.take_array()?);
                    self.push(Value::Float(float));
                }

                b'S' => self.quoted_string()?,
                b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.binary_bytes(opcode)?,
                b'V' => self.escaped_text()?,
                b'X' | 0x8c | 0x8d => self.binary_text(opcode)?,

                b')' | b']' | 0x8f => self.push_object(Object::Sequence(Vec::new())),
                b'}' => self.push_object(Object::Dict(Vec::new())),
                b't' | b'l' | 0x91 => {
                    let items = self.pop_to_mark()?;
                    self.push_object(Object::Sequence(items));
                }
                0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84))?,
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push_object(Object::Dict(Vec::new()));
                    self.set_items(&items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_to_mark()?;
                    self.append(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(&items)?;
                }

                b'p' | b'q' | b'r' | 0x94 => self.put(opcode)?,
                b'g' | b'h' | b'j' => self.get(opcode)?,

                b'c' | 0x93 => self.global(opcode)?,
                b'R' | 0x81 => self.call()?,
                b'b' => self.build()?,
                _ => return Err(refused(opcode)),
            }
        }
    }

    /// Counts work, so that neither time nor memory grows beyond the limit.
    fn charge(&mut self, items: usize) -> Result<()> {
        self.items += items;
        if self.items <= MAX_ITEMS {
            return Ok(());
        }
        Err(Error::Value(format!(
            "is a pickle of more than {MAX_ITEMS} items, expected the few hundred of a body model"
        )))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Up to the next newline, which is taken too.
    fn take_line(&mut self) -> Result<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| damaged("a line does not end"))?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// An unsigned little-endian length of `N` bytes.
    fn take_length<const N: usize>(&mut self) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.take_array::<N>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| damaged("a length is too large"))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn push_object(&mut self, object: Object<'a>) {
        // `charge` keeps the number of objects far below 2^32.
        let index = self.objects.len() as u32;
        self.objects.push(object);
        self.push(Value::Object(index));
    }

    /// The values above the innermost mark are not for single-value opcodes to reach below.
    fn pop(&mut self) -> Result<Value> {
        if self.marks.last().is_some_and(|&mark| self.stack.len() <= mark) {
            return Err(damaged("a mark stands where a value is expected"));
        }
        self.stack.pop().ok_or_else(|| damaged("the stack is empty"))
    }

    /// POP removes a mark when that is on top.
    fn pop_anything(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(|_| ())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| damaged("there is no mark"))?;
        if mark > self.stack.len() {
            return Err(damaged("a mark stands above the stack"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn protocol(&mut self) -> Result<()> {
        let protocol = self.take(1)?[0];
        if protocol <= 5 { Ok(()) } else { Err(damaged(format_args!("protocol {protocol}, expected 0 to 5"))) }
    }

    /// `I5`, `L5L`, and the booleans `I00` and `I01`.
    fn decimal_integer(&mut self) -> Result<()> {
        let line = self.take_line()?;
        let value = match line {
            b"00" => Value::Bool(false),
            b"01" => Value::Bool(true),
            _ => std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.trim_end_matches('L').parse().ok())
                .map(Value::Int)
                .ok_or_else(|| damaged(format_args!("{:?} is not an integer of 64 bits", quoted(line))))?,
        };
        self.push(value);
        Ok(())
    }

    fn binary_integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'K' => i64::from(u8::from_le_bytes(self.take_array()?)),
            b'M' => i64::from(u16::from_le_bytes(self.take_array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.take_array()?)),
            _ => {
                let length = if opcode == 0x8a { self.take_length::<1>()? } else { self.take_length::<4>()? };
                let bytes = self.take(length)?;
                // Two's complement of any length; only what fits 64 bits is of use.
                let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
                let filler = if negative { 0xFF } else { 0 };
                let mut wide = [filler; 8];
                if length > 9 || (length == 9 && bytes[8] != filler) {
                    return Err(damaged(format_args!("an integer of {length} bytes, expected at most 8")));
                }
                wide[..length.min(8)].copy_from_slice(&bytes[..length.min(8)]);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(value));
        Ok(())
    }

    fn decimal_float(&mut self) -> Result<()> {
        let line = self.take_line()?;
        let float = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
        self.push(Value::Float(float.ok_or_else(|| damaged(format_args!("{:?} is not a float", quoted(line))))?));
        Ok(())
    }

    /// Python 2's `repr` of a byte string.
    fn quoted_string(&mut self) -> Result<()> {
        let line = self.take_line()?;
        let wrong = || damaged(format_args!("{:?} is not a quoted string", quoted(line)));
        let quote = line.first().copied().filter(|quote| b"'\"".contains(quote)).ok_or_else(wrong)?;
        let inner = line[1..].strip_suffix(&[quote]).ok_or_else(wrong)?;
        let bytes = if inner.contains(&b'\\') { Cow::Owned(unescape(inner).ok_or_else(wrong)?) } else { inner.into() };
        self.push_object(Object::Bytes(bytes));
        Ok(())
    }

    fn binary_bytes(&mut self, opcode: u8) -> Result<()> {
        let length = match opcode {
            b'U' | b'C' => self.take_length::<1>()?,
            b'T' | b'B' => self.take_length::<4>()?,
            _ => self.take_length::<8>()?,
        };
        let bytes = self.take(length)?;
        self.push_object(Object::Bytes(bytes.into()));
        Ok(())
    }

    /// Text with `\uXXXX` escapes, as in protocol 0; other bytes are Latin-1.
    fn escaped_text(&mut self) -> Result<()> {
        let line = self.take_line()?;
        let text = unescape_text(line).ok_or_else(|| damaged(format_args!("{:?} is not text", quoted(line))))?;
        self.push_object(Object::Text(Cow::Owned(text)));
        Ok(())
    }

    fn binary_text(&mut self, opcode: u8) -> Result<()> {
        let length = match opcode {
            0x8c => self.take_length::<1>()?,
            b'X' => self.take_length::<4>()?,
            _ => self.take_length::<8>()?,
        };
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("text that is not UTF-8"))?;
        self.push_object(Object::Text(text.into()));
        Ok(())
    }

    fn short_tuple(&mut self, length: usize) -> Result<()> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push_object(Object::Sequence(items));
        Ok(())
    }

    /// The object on top of the stack, to be filled.
    fn top(&mut self) -> Result<&mut Object<'a>> {
        let value = self.pop()?;
        self.push(value);
        match value {
            Value::Object(index) => Ok(&mut self.objects[index as usize]),
            _ => Err(damaged("a plain value is filled like a container")),
        }
    }

    fn append(&mut self, items: &[Value]) -> Result<()> {
        match self.top()? {
            Object::Sequence(sequence) => sequence.extend_from_slice(items),
            _ => return Err(damaged("items are appended to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Value]) -> Result<()> {
        if items.len() % 2 == 1 {
            return Err(damaged("a key without a value"));
        }
        match self.top()? {
            Object::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(damaged("entries are set on what is no dict")),
        }
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            0x94 => self.memo.len() as u64,
            _ => self.memo_index(opcode == b'p', opcode == b'q')?,
        };
        let value = self.pop()?;
        self.push(value);
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<()> {
        let index = self.memo_index(opcode == b'g', opcode == b'h')?;
        let value = *self.memo.get(&index).ok_or_else(|| damaged(format_args!("memo {index} is not set")))?;
        self.push(value);
        Ok(())
    }

    fn memo_index(&mut self, decimal: bool, short: bool) -> Result<u64> {
        if decimal {
            let line = self.take_line()?;
            let index = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
            return index.ok_or_else(|| damaged(format_args!("{:?} is not a memo index", quoted(line))));
        }
        Ok(if short { self.take_length::<1>()? } else { self.take_length::<4>()? } as u64)
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let global = if opcode == b'c' {
            let (module, name) = (self.take_line()?, self.take_line()?);
            Global::from_name(&quoted(module), &quoted(name))?
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let text = |value| match value {
                Value::Object(index) => match &self.objects[index as usize] {
                    Object::Text(text) => Some(text.chars().take(QUOTED).collect::<String>()),
                    _ => None,
                },
                _ => None,
            };
            let (module, name) = text(module).zip(text(name)).ok_or_else(|| damaged("a global without a name"))?;
            Global::from_name(&module, &name)?
        };
        self.push_object(Object::Global(global));
        Ok(())
    }

    /// REDUCE and NEWOBJ: recorded, never made.
    fn call(&mut self) -> Result<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let callable = self.global_of(callable).ok_or_else(|| damaged("a call of what is no known class"))?;
        let items = match arguments {
            Value::Object(index) => match &self.objects[index as usize] {
                Object::Sequence(items) => items.as_slice(),
                _ => return Err(damaged("a call without an argument tuple")),
            },
            _ => return Err(damaged("a call without an argument tuple")),
        };
        let object = match callable {
            Global::CopyReconstructor => {
                let class = items.first().and_then(|&class| self.global_of(class));
                let callable = class.ok_or_else(|| damaged("an instance of what is no known class"))?;
                Object::Call { callable, arguments, state: Value::None }
            }
            // Entries follow with SETITEMS, except in Python 2's OrderedDict, which lists them as pairs.
            Global::Dict => {
                let pairs = items.first().and_then(|&pairs| self.sequence_of(pairs)).unwrap_or_default();
                let entries: Vec<_> = pairs
                    .iter()
                    .map(|&pair| match self.sequence_of(pair) {
                        Some(&[key, value]) => Ok((key, value)),
                        _ => Err(damaged("an OrderedDict of what are no pairs")),
                    })
                    .collect::<Result<_>>()?;
                self.charge(entries.len())?;
                Object::Dict(entries)
            }
            Global::Set => {
                let members = items.first().and_then(|&members| self.sequence_of(members)).unwrap_or_default().to_vec();
                self.charge(members.len())?;
                Object::Sequence(members)
            }
            Global::ObjectClass => return Err(damaged("a call of object()")),
            _ => Object::Call { callable, arguments, state: Value::None },
        };
        self.push_object(object);
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let new_state = self.pop()?;
        match self.top()? {
            Object::Call { state, .. } => *state = new_state,
            _ => return Err(damaged("a state is set on what is no instance")),
        }
        Ok(())
    }

    fn global_of(&self, value: Value) -> Option<Global> {
        match value {
            Value::Object(index) => match self.objects[index as usize] {
                Object::Global(global) => Some(global),
                _ => None,
            },
            _ => None,
        }
    }

    fn sequence_of(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Object(index) => match &self.objects[index as usize] {
                Object::Sequence(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Opcodes that would run code or reach outside the file, by name.
fn refused(opcode: u8) -> Error {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        0x82..=0x84 => "EXT",
        0x92 => "NEWOBJ_EX",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return damaged(format_args!("there is no opcode {opcode:#04x}")),
    };
    Error::Value(format!("is a pickle with opcode {name}, which is refused: expected only data"))
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::Value(format!("is a damaged pickle, or none: {what}"))
}

fn quoted(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)]).into_owned()
}
