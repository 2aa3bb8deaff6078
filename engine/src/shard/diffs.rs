//! Which fields of a view may go out as differences, and the tails that hold some.
//!
//! A tail with differences depends on more than a plain one: on the formats that the client decodes, and on the fields
//! that it holds as parsed JSON. Both are part of the tail's key ([`Variant`]), so that a difference is still computed
//! once for all sessions in step: they differ in neither.

use super::tails;
use crate::item::row::Row;
use crate::text::CRLF;
use crate::tlcp::diff::{Format, Formats, Order, Sent, Sizes, push_changed};
use crate::tlcp::{Dialect, values};

/// What the configuration says of differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diffs {
    /// The formats for fields of which the data adapter does not say any.
    pub order: Order,
    /// Which values are looked at.
    pub sizes: Sizes,
}

/// The fields that a client holds as parsed JSON, bit by bit in the order of its schema; see
/// [`crate::tlcp::diff`] for why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed(u32);

/// The formats of a view's fields, by their position in the schema. Made only where there is one.
#[derive(Debug)]
pub struct FieldDiffs {
    orders: Box<[Order]>,
    /// All formats in there.
    formats: Formats,
    sizes: Sizes,
}

/// What a tail depends on besides its rows: nothing for plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    client: Formats,
    parsed: Parsed,
}

impl Parsed {
    /// Fields beyond are not tracked. They get the first of their formats only.
    const FIELDS: usize = 32;

    fn has(self, field: usize) -> bool {
        field < Self::FIELDS && self.0 & 1 << field != 0
    }

    fn set(&mut self, field: usize, parsed: bool) {
        if field < Self::FIELDS {
            self.0 = self.0 & !(1 << field) | u32::from(parsed) << field;
        }
    }
}

impl Variant {
    /// No differences.
    pub const PLAIN: Self = Self {
        client: Formats::NONE,
        parsed: Parsed(0),
    };
}

impl FieldDiffs {
    /// Of the fields of a schema, each with its name and order; `None` if there is nothing to try on any.
    pub fn new<'f>(
        fields: impl Iterator<Item = (&'f str, Order)>,
        sizes: Sizes,
    ) -> Option<Box<Self>> {
        let order = |(position, (name, order)): (usize, (&str, Order))| match name {
            // In COMMAND these two say what happens to which row: clients read them as they are.
            "key" | "command" => Order::NONE,
            _ if position < Parsed::FIELDS => order,
            _ => Order::new(order.iter().take(1)),
        };
        let orders: Box<[Order]> = fields.enumerate().map(order).collect();
        let formats = orders
            .iter()
            .fold(Formats::NONE, |all, order| all.or(order.formats()));
        (!formats.is_empty()).then(|| {
            Box::new(Self {
                orders,
                formats,
                sizes,
            })
        })
    }

    /// What a client's tail depends on.
    pub fn variant(&self, client: Formats, parsed: Parsed) -> Variant {
        match client.and(self.formats) {
            Formats::NONE => Variant::PLAIN,
            client => Variant { client, parsed },
        }
    }

    /// Encodes a tail; returns what the client holds as JSON afterwards.
    pub fn encode(
        &self,
        out: &mut Vec<u8>,
        fields: &[u16],
        base: Option<&Row>,
        row: &Row,
        variant: Variant,
    ) -> Parsed {
        let Some(base) = base.filter(|_| variant != Variant::PLAIN) else {
            tails::encode(out, Dialect::Tlcp, fields, base, row);
            return Parsed::default();
        };
        let mut parsed = variant.parsed;
        let push =
            |out: &mut Vec<u8>, position: usize, value: Option<&[u8]>, before: Option<&[u8]>| {
                let order = self.orders[position];
                if order.is_none() {
                    return values::push_value(out, value);
                }
                let is_parsed = parsed.has(position);
                let sent = push_changed(
                    out,
                    order,
                    variant.client,
                    is_parsed,
                    &self.sizes,
                    before,
                    value,
                );
                parsed.set(position, sent == Sent::Diff(Format::JsonPatch));
            };
        values::encode_delta_by(
            out,
            fields.len(),
            |position| row.get(usize::from(fields[position])),
            |position| base.get(usize::from(fields[position])),
            push,
        );
        out.extend_from_slice(CRLF);
        parsed
    }
}
