//! The guests. All of them export `run: func(times: u32)`.

const TYPES: &str = r#"
  (import "parole:capabilities/types@0.1.0" (instance $types
    (type $variant (variant (case "denied" string) (case "expired") (case "canceled") (case "closed")
      (case "not-found") (case "invalid" string) (case "too-large" u64) (case "exhausted" string)
      (case "failed" string)))
    (export "error" (type (eq $variant)))))
  (alias export $types "error" (type $error))"#;

/// Calls `host` once for each time, with core code that pushes its arguments.
fn guest(imports: &str, data: &str, lower: &str, params: &str, arguments: &str) -> Vec<u8> {
    format!(
        r#"(component {imports}
  (core module $Memory
    (memory (export "memory") 1)
    {data}
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $Memory))
  (core func $host (canon lower {lower}
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $Main
    (import "host" "call" (func $call (param {params})))
    (func (export "run") (param $times i32)
      (if (local.get $times) (then
        (loop $again
          (call $call {arguments})
          (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))))
  (core instance $main (instantiate $Main (with "host" (instance (export "call" (func $host))))))
  (func (export "run") (param "times" u32) (canon lift (core func $main "run"))))"#
    )
    .into_bytes()
}

/// Prints 64 bytes.
pub fn print() -> Vec<u8> {
    guest(
        r#"(import "parole:capabilities/print@0.1.0" (instance $print (export "print" (func (param "text" string)))))"#,
        r#"(data (i32.const 16) "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")"#,
        r#"(func $print "print")"#,
        "i32 i32",
        "(i32.const 16) (i32.const 64)",
    )
}

/// Asks a person for a name.
pub fn input() -> Vec<u8> {
    guest(
        &format!(
            r#"{TYPES}
  (import "parole:capabilities/input@0.1.0" (instance $input
    (export "error" (type $e (eq $error)))
    (export "input" (func (param "prompt" string) (result (result string (error $e)))))))"#
        ),
        r#"(data (i32.const 16) "What is your name?")"#,
        r#"(func $input "input")"#,
        "i32 i32 i32",
        "(i32.const 16) (i32.const 18) (i32.const 64)",
    )
}

/// Reads `/data/file`.
pub fn read_file() -> Vec<u8> {
    guest(
        &format!(
            r#"{TYPES}
  (import "parole:capabilities/read-file@0.1.0" (instance $read
    (export "error" (type $e (eq $error)))
    (export "read-file" (func (param "path" string) (result (result (list u8) (error $e)))))))"#
        ),
        r#"(data (i32.const 16) "/data/file")"#,
        r#"(func $read "read-file")"#,
        "i32 i32 i32",
        "(i32.const 16) (i32.const 10) (i32.const 64)",
    )
}

/// The same through an interface of the user's.
pub fn read_file_of(interface: &str) -> Vec<u8> {
    guest(
        &format!(
            r#"
  (import "{interface}" (instance $read
    (export "read-file" (func (param "path" string) (result (result (list u8) (error string)))))))"#
        ),
        r#"(data (i32.const 16) "/data/file")"#,
        r#"(func $read "read-file")"#,
        "i32 i32 i32",
        "(i32.const 16) (i32.const 10) (i32.const 64)",
    )
}
