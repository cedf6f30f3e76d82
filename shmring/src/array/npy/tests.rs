use proptest::prelude::*;

use super::*;

fn file(text: &str) -> Vec<u8> {
    assemble(1, &(text.len() as u16 + 1).to_le_bytes(), text, text.len() + 1)
}

fn parse(text: &str) -> Result<Header, NpyError> {
    Header::parse(&file(text)).map(|(header, _)| header)
}

#[test]
fn a_header_looks_as_numpy_writes_it() {
    let header = Header { dtype: Dtype::F64, order: Order::C, shape: vec![3, 4] };
    let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    expected.extend(b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }");
    expected.resize(127, b' ');
    expected.push(b'\n');
    assert_eq!(header.write(), expected);
    assert_eq!(Header::parse(&expected), Ok((header.clone(), 128)));
    assert_eq!(header.to_string(), "float64 of shape (3, 4)");
}

#[test]
fn freedoms_of_the_text_are_accepted() {
    let wanted = Header { dtype: Dtype::U8, order: Order::Fortran, shape: vec![7] };
    for text in [
        "{'descr': '|u1', 'fortran_order': True, 'shape': (7,), }",
        "{\"shape\":(7,),\"fortran_order\":True,\"descr\":\"<u1\"}",
        "  { 'shape' : ( 7 , ) , 'descr' : '=u1' , 'fortran_order' : True }   ",
        "{'descr': '|u1', 'fortran_order': True, 'shape': (7L,)}",
    ] {
        assert_eq!(parse(text), Ok(wanted.clone()), "{text}");
    }
    for (text, shape) in [("()", vec![]), ("(0,)", vec![0]), ("(2, 0, 3)", vec![2, 0, 3])] {
        let text = format!("{{'descr': '<c16', 'fortran_order': False, 'shape': {text}, }}");
        assert_eq!(parse(&text).unwrap().shape, shape);
    }
    // Versions 2.0 and 3.0 differ by the width of the length alone.
    let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (7,), }";
    for version in [2, 3] {
        let bytes = assemble(version, &(text.len() as u32 + 1).to_le_bytes(), text, text.len() + 1);
        assert_eq!(Header::parse(&bytes), Ok((wanted.clone(), bytes.len())));
    }
}

#[test]
fn what_is_not_a_header_is_refused() {
    for text in [
        "",
        "{}",
        "{'descr': '<f8'}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, -1)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': 3}",
        "{'descr': '<f8', 'fortran_order': false, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)} x",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)",
        "{'descr': '<f8' 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': True}",
        "{'descr': '<f8', 'fortran_order': False, 'shape: (3,)}",
        "{'de\\scr': '<f8', 'fortran_order': False, 'shape': (3,)}",
    ] {
        assert!(matches!(parse(text), Err(NpyError::Syntax { .. })), "{text}");
    }
    for descr in ["'>f8'", "'|f8'", "'<f3'", "'|O'", "'<U7'", "''", "[('x', '<f8')]"] {
        let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,)}}");
        assert!(matches!(parse(&text), Err(NpyError::Dtype(_))), "{descr}");
    }
    for shape in [
        "(18446744073709551616,)",
        "(9223372036854775807,)",
        "(4294967296, 4294967296)",
        "(0, 4294967296, 4294967296)",
    ] {
        let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}");
        assert_eq!(parse(&text), Err(NpyError::Size), "{shape}");
    }
    let many = "1,".repeat(MAX_RANK + 1);
    let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({many})}}");
    assert_eq!(parse(&text), Err(NpyError::Rank));

    assert_eq!(Header::parse(b"\x93NUM"), Err(NpyError::Incomplete));
    assert_eq!(Header::parse(b"\x93NUMPX"), Err(NpyError::NotNpy));
    assert_eq!(Header::parse(b"\x93NUMPY\x04\x00\x00\x00"), Err(NpyError::Version(4, 0)));
    assert_eq!(
        Header::parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        Err(NpyError::TooLong(0xffff_ffff))
    );
}

fn header() -> impl Strategy<Value = Header> {
    let length = prop_oneof![Just(0), 1..10usize, any::<u32>().prop_map(|n| n as usize)];
    (prop::sample::select(Dtype::ALL), any::<bool>(), prop::collection::vec(length, 0..6)).prop_map(
        |(dtype, fortran, shape)| Header {
            dtype,
            order: if fortran { Order::Fortran } else { Order::C },
            shape,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(header in header()) {
        let bytes = header.write();
        prop_assert_eq!(bytes.len() % ALIGN, 0);
        match header.elements() {
            Ok(_) => prop_assert_eq!(Header::parse(&bytes), Ok((header, bytes.len()))),
            Err(error) => prop_assert_eq!(Header::parse(&bytes), Err(error)),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::parse(&bytes);
        let mut with_magic = b"\x93NUMPY\x01\x00".to_vec();
        with_magic.extend(bytes);
        let _ = Header::parse(&with_magic);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[{}()',:LTFa-z0-9<|' \\\\]{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_changed_byte_is_never_dangerous(header in header(), at in 0..128usize, byte: u8, cut in 0..200usize) {
        let mut bytes = header.write();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        if let Ok((header, offset)) = Header::parse(&bytes) {
            prop_assert!(header.bytes().is_ok());
            prop_assert!(offset <= bytes.len());
        }
        bytes.truncate(cut);
        let _ = Header::parse(&bytes);
    }
}
