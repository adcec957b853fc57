//! The fields of a transfer as one text: each after its length and one, which is 0 where the field
//! is absent; lengths are `u32`, little-endian.

/// What a caller wrote beside the terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// For people.
    pub description: Option<&'a str>,
    /// The caller's own.
    pub reference: Option<&'a str>,
    /// A JSON object of strings, as text.
    pub metadata: Option<&'a str>,
}

impl<'a> Fields<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let fields = [self.description, self.reference, self.metadata];
        let length = fields.iter().flatten().map(|field| field.len()).sum::<usize>();
        let mut out = Vec::with_capacity(length + 4 * fields.len());
        for field in fields {
            let length = field.map_or(0, |field| field.len() + 1);
            let length = u32::try_from(length).expect("a request has at most a few megabytes");
            out.extend(length.to_le_bytes());
            out.extend(field.unwrap_or_default().as_bytes());
        }
        out
    }

    /// From what was encoded; none for anything else.
    pub fn decode(mut text: &'a [u8]) -> Option<Self> {
        let mut field = || {
            let (length, rest) = text.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let Some(length) = length.checked_sub(1) else {
                text = rest;
                return Some(None);
            };
            let (field, rest) = rest.split_at_checked(length)?;
            text = rest;
            Some(Some(std::str::from_utf8(field).ok()?))
        };
        let (description, reference, metadata) = (field()?, field()?, field()?);
        text.is_empty().then_some(Self { description, reference, metadata })
    }
}
