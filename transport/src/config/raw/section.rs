//! How a section is defined: once, for the file that is read, the defaults, and the reference.

/// One key of a section, for the reference.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it does, line by line.
    pub doc: &'static [&'static str],
    /// The value it has when the file does not give one, as TOML.
    pub default: Option<String>,
    /// For keys that have no default: a value they could have, as TOML.
    pub example: Option<String>,
}

/// One table of the file, for the reference.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its header with brackets.
    pub header: &'static str,
    /// Most files do not have it: the reference shows it as a comment.
    pub optional: bool,
    /// What it is about, line by line.
    pub doc: &'static [&'static str],
    /// Its keys in the order of their definition.
    pub keys: Vec<Key>,
}

/// Defines a section: a struct of optional fields, a getter for each field that has a default, and the text of the
/// reference. Keys are written `name: Type = default;` or `name: Type, example value;`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $Name:ident [$header:literal]
        $($(#[doc = $doc:literal])+ $key:ident: $Type:ty $(= $default:expr)? $(, example $example:expr)?;)*
        $(tables { $($(#[doc = $table_doc:literal])+ $table:ident: $Table:ty;)* })?
        $(inner { $($(#[doc = $inner_doc:literal])+ $inner:ident: $Inner:ty;)* })?
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Name {
            $($(#[doc = $doc])+ pub $key: Option<$Type>,)*
            $($($(#[doc = $table_doc])+ pub $table: Option<Vec<$Table>>,)*)?
            $($($(#[doc = $inner_doc])+ pub $inner: Option<Box<$Inner>>,)*)?
        }

        impl $Name {
            $($(
                #[doc = concat!("`", stringify!($key), "`, or its default.")]
                pub fn $key(&self) -> $Type {
                    self.$key.clone().unwrap_or_else(|| $default)
                }
            )?)*

            /// The section as the reference describes it.
            pub fn section() -> Section {
                Section {
                    header: $header,
                    optional: false,
                    doc: &[$($section_doc),+],
                    keys: vec![$(
                        #[allow(unused_mut, unused_assignments)]
                        {
                            let (mut default, mut example): (Option<$Type>, Option<$Type>) = (None, None);
                            $(default = Some($default);)?
                            $(example = Some($example);)?
                            Key {
                                name: stringify!($key),
                                doc: &[$($doc),+],
                                default: default.map(to_toml),
                                example: example.map(to_toml),
                            }
                        }
                    ),*],
                }
            }
        }
    };
}
pub(super) use section;

/// A section that most files do not have.
pub(super) fn optional(section: Section) -> Section {
    Section {
        optional: true,
        ..section
    }
}

pub(super) fn to_toml<T: serde::Serialize>(value: T) -> String {
    // Values are numbers, booleans, strings and lists of them, all of which TOML can express.
    toml::Value::try_from(value)
        .expect("a key's default is expressible")
        .to_string()
}
