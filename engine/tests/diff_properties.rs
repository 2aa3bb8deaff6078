//! Value differences: whatever the values, a client that applies what it is sent has the value, or for JSON the
//! document, that was published; with a decoder that shares no code with the encoder.

use engine::tlcp::client::{FieldValues, apply_text};
use engine::tlcp::diff::{Format, Formats, Order, Sent, Sizes, push_changed};
use proptest::prelude::*;
use serde_json::Value;

const EAGER: Sizes = Sizes {
    json_patch_bytes_min: 0,
    text_bytes_min: 0,
    bytes_max: 128 << 10,
};

/// A text, and another one made of it by a few edits.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let words = prop_oneof![
        8 => "[a-e|%\n]{0,30}",
        2 => "[ -~]{0,40}",
        1 => "[#$^]?[à-ÿ]{0,10}",
        1 => "(😀|e\u{301}|\r\n|日本|\u{1100})?[a-c]{0,10}",
    ];
    let edit = (0usize..200, 0usize..12, "[a-eX]{0,8}");
    (
        prop::collection::vec(words, 0..6),
        prop::collection::vec(edit, 0..6),
    )
        .prop_map(|(words, edits)| {
            let mut all = vec![words.concat()];
            for (at, gone, added) in edits {
                let last: Vec<char> = all.last().unwrap().chars().collect();
                let from = at.min(last.len());
                let to = (from + gone).min(last.len());
                let next = last[..from].iter().copied();
                let next = next.chain(added.chars()).chain(last[to..].iter().copied());
                all.push(next.collect());
            }
            all
        })
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        prop::sample::select(vec![
            "0",
            "-0",
            "1.10",
            "1E5",
            "12345678901234567890.50",
            "1e-400"
        ])
        .prop_map(str::to_owned),
        "[a-c|^%/~é]{0,3}".prop_map(|text| Value::String(text).to_string()),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = prop::sample::select(vec!["a", "b", "c", "", "x/y", "m~n", "01", "-", "é|"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|e| format!("[{}]", e.join(","))),
            prop::collection::btree_map(name, inner, 0..5).prop_map(|members| {
                let members = members
                    .iter()
                    .map(|(name, value)| format!("{} : {value}", Value::from(*name)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            }),
        ]
    })
}

fn value() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        6 => json().prop_map(Some),
        3 => "[a-c]{0,30}".prop_map(Some),
        1 => texts().prop_map(|texts| texts.into_iter().next_back()),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop::collection::vec(
        prop::sample::select(vec![Format::JsonPatch, Format::Text]),
        0..3,
    )
    .prop_map(Order::new)
}

/// Same text, or same document where the client holds one. Numbers count by their digits.
fn agree(client: Option<&str>, published: Option<&str>) -> bool {
    client == published
        || client.zip(published).is_some_and(|(client, published)| {
            let parse = |text| serde_json::from_str::<Value>(text).ok();
            parse(client).is_some() && parse(client) == parse(published)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_text_is_what_its_edits_make(texts in texts()) {
        let mut client = FieldValues::new(1);
        let mut first = Vec::new();
        engine::tlcp::values::push_value(&mut first, Some(texts[0].as_bytes()));
        client.apply(std::str::from_utf8(&first).unwrap()).unwrap();
        for pair in texts.windows(2).filter(|pair| pair[0] != pair[1]) {
            let mut out = Vec::new();
            let (previous, current) = (Some(pair[0].as_bytes()), Some(pair[1].as_bytes()));
            let order = Order::new([Format::Text]);
            push_changed(&mut out, order, Formats::ALL, false, &EAGER, previous, current);
            client.apply(std::str::from_utf8(&out).unwrap()).unwrap();
            prop_assert_eq!(client.get(0), Some(pair[1].as_str()));
        }
    }

    /// Any values one after the other, with the state that a shard keeps; never longer than the values in full.
    #[test]
    fn a_client_follows_any_values(
        values in prop::collection::vec(value(), 1..8),
        order in order(),
    ) {
        let mut client = FieldValues::new(1);
        let mut previous: Option<&Option<String>> = None;
        let mut holds_json = false;
        for value in &values {
            let mut full = Vec::new();
            engine::tlcp::values::push_value(&mut full, value.as_deref().map(str::as_bytes));
            let mut out = Vec::new();
            match previous {
                None => out.clone_from(&full),
                Some(previous) if previous == value => {}
                Some(previous) => {
                    let bytes = |value: &Option<String>| value.clone().map(String::into_bytes);
                    let (before, after) = (bytes(previous), bytes(value));
                    let sent = push_changed(
                        &mut out, order, Formats::ALL, holds_json, &EAGER, before.as_deref(), after.as_deref(),
                    );
                    prop_assert!(out.len() <= full.len());
                    prop_assert!(sent != Sent::Diff(Format::Text) || !holds_json);
                    holds_json = sent == Sent::Diff(Format::JsonPatch);
                }
            }
            let list = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(client.apply(list), Ok(()), "{}", list);
            prop_assert!(agree(client.get(0), value.as_deref()), "{list}: {:?} {value:?}", client.get(0));
            previous = Some(value);
        }
    }

    #[test]
    fn the_decoder_survives_anything(previous in ".{0,20}", script in "[a-dA-C].{0,20}") {
        let _ = apply_text(&previous, &script);
        let mut client = FieldValues::new(1);
        client.apply("[1,2]").unwrap();
        let _ = client.apply(&format!("^P{script}"));
    }
}

/// A small change of a large document costs a small line; that is what differences are for.
#[test]
fn a_small_change_is_a_short_token() {
    let document = |price: &str| {
        let rows: Vec<_> = (0..200)
            .map(|i| format!(r#"{{"name":"item {i}","price":{price}.{i}}}"#))
            .collect();
        format!("[{}]", rows.join(","))
    };
    let (before, after) = (
        document("1"),
        document("1").replacen("item 77", "item |", 1),
    );
    for (format, bytes_max) in [(Format::JsonPatch, 70), (Format::Text, 20)] {
        let mut out = Vec::new();
        let sent = push_changed(
            &mut out,
            Order::new([format]),
            Formats::ALL,
            false,
            &Sizes::DEFAULT,
            Some(before.as_bytes()),
            Some(after.as_bytes()),
        );
        assert_eq!(sent, Sent::Diff(format));
        assert!(out.len() <= bytes_max, "{}", String::from_utf8_lossy(&out));
    }
}
