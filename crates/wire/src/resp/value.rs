//! Replies as a client understands them.

use super::ReplyError;
use super::scan::{Aggregate, Leaf, ReplyScanner, Visitor};

/// A reply in any version of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: the null of RESP3, and the null string and null array of RESP2.
    Null,
    /// A status.
    Simple(Vec<u8>),
    /// An error: a code, a blank, and a message.
    Error(Vec<u8>),
    /// A whole number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// Values in an order.
    Array(Vec<Value>),
    /// A floating-point number.
    Double(f64),
    /// Yes or no.
    Boolean(bool),
    /// The digits of a whole number of any size.
    BigNumber(Vec<u8>),
    /// A text for people.
    Verbatim {
        /// Its format, `txt` or `mkd`.
        format: [u8; 3],
        /// What it says.
        text: Vec<u8>,
    },
    /// Keys and values, in the order they came.
    Map(Vec<(Value, Value)>),
    /// Values in no order.
    Set(Vec<Value>),
    /// What was not asked for now.
    Push(Vec<Value>),
    /// A value, and what there is to say about it.
    Attributed {
        /// What there is to say.
        attributes: Vec<(Value, Value)>,
        /// The value.
        value: Box<Value>,
    },
}

/// Makes [`Value`]s of replies, in whatever pieces they come. Nothing is allocated before it has come.
#[derive(Debug, Default)]
pub struct ValueDecoder {
    scanner: ReplyScanner,
    builder: Builder,
}

impl ValueDecoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the reply that begins with `bytes`, and gives its length and what it is when it is whole.
    ///
    /// As long as it is not, the next call gets the same bytes with more behind them.
    ///
    /// # Errors
    /// [`ReplyError`] if this is no reply. Where the next one would begin is not known: the connection is to be closed.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Option<(usize, Value)>, ReplyError> {
        let len = self.scanner.visit(bytes, &mut self.builder)?;
        Ok(len.and_then(|len| Some((len, self.builder.whole.take()?))))
    }
}

#[derive(Debug, Default)]
struct Builder {
    /// The aggregates that lack something, each in the one before it.
    open: Vec<(Aggregate, Vec<Value>)>,
    whole: Option<Value>,
}

impl Builder {
    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            Some((_, values)) => values.push(value),
            None => self.whole = Some(value),
        }
    }
}

impl Visitor for Builder {
    fn leaf(&mut self, leaf: Leaf<'_>) {
        self.add(match leaf {
            Leaf::Null => Value::Null,
            Leaf::Simple(text) => Value::Simple(text.to_vec()),
            Leaf::Error(text) => Value::Error(text.to_vec()),
            Leaf::Integer(number) => Value::Integer(number),
            Leaf::Double(number) => Value::Double(number),
            Leaf::Boolean(value) => Value::Boolean(value),
            Leaf::BigNumber(digits) => Value::BigNumber(digits.to_vec()),
            Leaf::Bulk(text) => Value::Bulk(text.to_vec()),
            Leaf::Verbatim(format, text) => Value::Verbatim { format, text: text.to_vec() },
        });
    }

    fn open(&mut self, aggregate: Aggregate) {
        self.open.push((aggregate, Vec::new()));
    }

    fn close(&mut self) {
        let Some((aggregate, mut values)) = self.open.pop() else { return };
        let value = match aggregate {
            Aggregate::Array => Value::Array(values),
            Aggregate::Set => Value::Set(values),
            Aggregate::Push => Value::Push(values),
            Aggregate::Map => Value::Map(pairs(values)),
            Aggregate::Attributes => {
                let value = Box::new(values.pop().unwrap_or(Value::Null));
                Value::Attributed { attributes: pairs(values), value }
            }
        };
        self.add(value);
    }
}

fn pairs(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut values = values.into_iter();
    std::iter::from_fn(|| values.next().zip(values.next())).collect()
}

#[cfg(test)]
mod tests;
