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

#[cfg(test)]
mod tests {
    use super::super::tails::{Tails, Wanted};
    use super::*;
    use crate::item::row::RowBuilder;
    use crate::tlcp::client::FieldValues;
    use proptest::prelude::*;

    const EAGER: Sizes = Sizes {
        json_patch_bytes_min: 0,
        text_bytes_min: 0,
        bytes_max: 1 << 16,
    };

    /// Values of which many make short differences from each other.
    fn value() -> impl Strategy<Value = Option<String>> {
        let text = |from: &str| "the same text with a change in the middle".replace("change", from);
        let json = |n: u8| {
            let name = "always the same | name, so long that a patch is shorter than the document";
            format!(r#"{{"name":"{name}","n":{n}}}"#)
        };
        prop_oneof![
            1 => Just(None),
            1 => Just(Some(String::new())),
            2 => prop::sample::select(vec!["x", "yy|", "größe"]).prop_map(move |from| Some(text(from))),
            4 => (0u8..4).prop_map(move |n| Some(json(n))),
            // No document any more, but a text that is nearly the same.
            2 => (0u8..4).prop_map(move |n| Some(json(n) + "~")),
        ]
    }

    fn row(seq: u64, values: &[Option<String>]) -> Row {
        let mut builder = RowBuilder::default();
        builder.start(seq, values.len());
        for value in values {
            builder.push(value.as_ref().map(String::as_bytes));
        }
        builder.finish()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let values = prop::collection::vec(value(), 0..4);
        prop::collection::vec(values, 2..8).prop_map(|rows| {
            let numbered = rows.iter().zip(0..);
            numbered.map(|(values, seq)| row(seq, values)).collect()
        })
    }

    /// A view of three fields, with the formats of each.
    fn view() -> impl Strategy<Value = Option<Box<FieldDiffs>>> {
        let order = prop::collection::vec(
            prop::sample::select(vec![Format::JsonPatch, Format::Text]),
            0..3,
        );
        prop::collection::vec(order, 3).prop_map(|orders| {
            let orders = orders.into_iter().map(Order::new);
            FieldDiffs::new(["a", "b", "c"].into_iter().zip(orders), EAGER)
        })
    }

    const FIELDS: [u16; 3] = [0, 1, 2];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Whatever was asked before by whom, a tail with differences is what encoding it would give, and says the same of
        /// what the client holds; and the same question again is a hit.
        #[test]
        fn tails_with_differences_equal_direct_encoding(
            rows in rows(),
            view in view(),
            asked in prop::collection::vec(
                (prop::option::of(0usize..8), 0usize..8, prop::sample::select(vec!["", "P", "T", "PT"]), 0u32..8),
                1..60,
            ),
            waiting in 0usize..70,
        ) {
            let mut tails = Tails::new(Dialect::Tlcp);
            let mut scratch = Vec::new();
            let diffs = view.as_deref();
            for (base, current, client, parsed) in asked {
                let base = base.map(|base| &rows[base % rows.len()]);
                let current = &rows[current % rows.len()];
                let client = formats(client);
                let variant = diffs.map_or(Variant::PLAIN, |diffs| diffs.variant(client, Parsed(parsed)));
                let mut direct = Vec::new();
                let holds = match diffs {
                    Some(diffs) => diffs.encode(&mut direct, &FIELDS, base, current, variant),
                    None => {
                        tails::encode(&mut direct, Dialect::Tlcp, &FIELDS, base, current);
                        Parsed::default()
                    }
                };
                for again in [false, true] {
                    let wanted = Wanted { variant, waiting };
                    let tail = tails.get(&FIELDS, diffs, base, current, wanted, &mut scratch);
                    prop_assert_eq!(&**tail.bytes, direct.as_slice());
                    prop_assert_eq!(tail.parsed, holds);
                    prop_assert!(!again || tail.hit);
                }
            }
        }

        /// Clients that decode different formats, and are at different rows, share the tails of a view, and each follows.
        #[test]
        fn clients_of_all_formats_share_tails(
            rows in rows(),
            view in view(),
            steps in prop::collection::vec((0usize..4, 0usize..8), 1..60),
            waiting in 0usize..70,
        ) {
            let mut tails = Tails::new(Dialect::Tlcp);
            let mut scratch = Vec::new();
            let diffs = view.as_deref();
            let mut clients = ["", "P", "T", "PT"]
                .map(|known| (formats(known), FieldValues::new(FIELDS.len()), None, Parsed::default()));
            for (client, current) in steps {
                let (known, values, base, parsed) = &mut clients[client];
                let current = &rows[current % rows.len()];
                let variant = diffs.map_or(Variant::PLAIN, |diffs| diffs.variant(*known, *parsed));
                let wanted = Wanted { variant, waiting };
                let tail = tails.get(&FIELDS, diffs, base.as_ref(), current, wanted, &mut scratch);
                let list = std::str::from_utf8(tail.bytes).unwrap().trim_end_matches("\r\n");
                prop_assert_eq!(values.apply(list), Ok(()), "{}", list);
                for (field, value) in values.iter().enumerate() {
                    let published = current.get(field).map(|value| std::str::from_utf8(value).unwrap());
                    // A document of which parts were replaced has the spelling of the client.
                    let parse = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
                    prop_assert!(
                        value == published || parse(value).is_some() && parse(value) == parse(published),
                        "{:?} for {:?}", value, published
                    );
                }
                (*base, *parsed) = (Some(current.clone()), tail.parsed);
            }
        }
    }

    fn formats(letters: &str) -> Formats {
        let mut formats = Formats::NONE;
        for letter in letters.chars() {
            formats = formats.or(match letter {
                'P' => Order::new([Format::JsonPatch]).formats(),
                _ => Order::new([Format::Text]).formats(),
            });
        }
        formats
    }
}
