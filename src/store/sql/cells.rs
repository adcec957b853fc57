//! The values of a batch in two buffers, row after row: a tag each, then eight bytes of an integer
//! or of a length, then the bytes; texts stand one after the other in a buffer of their own, so that
//! they are still known to be texts. They live from the call to the statement.

use serde::ser::{Error as _, Impossible, SerializeTuple, Serializer};
use serde::{Serialize, de::value::Error};

const NULL: u8 = 0;
const INT: u8 = 1;
const TEXT: u8 = 2;
const BYTES: u8 = 3;

/// One value.
#[derive(Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// The values of rows.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    cells: Vec<u8>,
    texts: String,
    /// Of each row.
    pub columns: usize,
}

impl Packed {
    /// Rows are tuples of texts, bytes, integers and options of these.
    pub fn of<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut packed = Self { cells: Vec::with_capacity(4096), ..Self::default() };
        for row in rows {
            row.serialize(&mut Packer(&mut packed))
                .expect("rows are tuples of texts, bytes, integers and nulls");
        }
        packed
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.cells.len() + self.texts.len()
    }
}

/// Values yet to be taken out.
pub struct Cells<'a> {
    cells: &'a [u8],
    texts: &'a str,
}

impl<'a> Cells<'a> {
    pub fn of(packed: &'a Packed) -> Self {
        Self { cells: &packed.cells, texts: &packed.texts }
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn number(&mut self) -> Option<i64> {
        let (number, rest) = self.cells.split_first_chunk()?;
        self.cells = rest;
        Some(i64::from_le_bytes(*number))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (bytes, rest) = self.cells.split_at_checked(length)?;
        self.cells = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        let (text, rest) = self.texts.split_at_checked(length)?;
        self.texts = rest;
        Some(text)
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        let (tag, rest) = self.cells.split_first()?;
        self.cells = rest;
        match *tag {
            NULL => Some(Cell::Null),
            INT => self.number().map(Cell::Int),
            TEXT => self.text().map(Cell::Text),
            BYTES => self.bytes().map(Cell::Bytes),
            _ => None,
        }
    }
}

struct Packer<'a>(&'a mut Packed);

impl Packer<'_> {
    fn tagged(&mut self, tag: u8, number: i64) {
        self.0.cells.push(tag);
        self.0.cells.extend(number.to_le_bytes());
    }

    fn sized(&mut self, tag: u8, length: usize) -> Result<(), Error> {
        self.tagged(tag, i64::try_from(length).map_err(Error::custom)?);
        Ok(())
    }
}

fn no<T>() -> Result<T, Error> {
    Err(Error::custom("not a column's type"))
}

macro_rules! integers {
    ($($method:ident $type:ty),+) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            self.tagged(INT, i64::try_from(value).map_err(Error::custom)?);
            Ok(())
        })+
    };
}

impl<'a, 'b> Serializer for &'a mut Packer<'b> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn is_human_readable(&self) -> bool {
        false
    }

    integers!(
        serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32,
        serialize_i64 i64, serialize_u8 u8, serialize_u16 u16, serialize_u32 u32,
        serialize_u64 u64
    );

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.sized(TEXT, text.len())?;
        self.0.texts.push_str(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        self.sized(BYTES, bytes.len())?;
        self.0.cells.extend_from_slice(bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.cells.push(NULL);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_tuple(self, columns: usize) -> Result<Self, Error> {
        self.0.columns = columns;
        Ok(self)
    }

    fn serialize_f32(self, _: f32) -> Result<(), Error> {
        no()
    }

    fn serialize_f64(self, _: f64) -> Result<(), Error> {
        no()
    }

    fn serialize_char(self, _: char) -> Result<(), Error> {
        no()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        no()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Error> {
        no()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        no()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        no()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        no()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        no()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        no()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Error> {
        no()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        no()
    }
}

impl SerializeTuple for &mut Packer<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::Hex;

    #[test]
    fn what_is_packed_is_taken_out_again() {
        let rows = [(1_u64, "ä", Hex([0, 0xff]), None), (2, "", Hex([7, 8]), Some(i64::MIN))];
        let packed = Packed::of(rows);
        let cells: Vec<Cell<'_>> = Cells::of(&packed).collect();
        let (one, two) = ([0, 0xff], [7, 8]);
        let expected = [
            [Cell::Int(1), Cell::Text("ä"), Cell::Bytes(&one), Cell::Null],
            [Cell::Int(2), Cell::Text(""), Cell::Bytes(&two), Cell::Int(i64::MIN)],
        ];
        assert_eq!(cells, expected.into_iter().flatten().collect::<Vec<_>>());
    }

    #[test]
    fn a_buffer_that_was_cut_off_ends() {
        let packed = Packed::of([("abc", 5)]);
        for end in 0..packed.cells.len() {
            assert!(Cells { cells: &packed.cells[..end], texts: &packed.texts }.count() < 2);
        }
        for end in 0..packed.texts.len() {
            assert!(Cells { cells: &packed.cells, texts: &packed.texts[..end] }.count() < 2);
        }
    }
}
