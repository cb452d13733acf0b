;; Asks for a name and greets: what greet does in Rust and C. Read hello.wat first.
(component
  ;; A WIT type that several interfaces share is imported once, and named in each of them.
  (import "parole:capabilities/types@0.1.0" (instance $types
    (type $variant (variant
      (case "denied" string)
      (case "expired")
      (case "canceled")
      (case "closed")
      (case "not-found")
      (case "invalid" string)
      (case "too-large" u64)
      (case "exhausted" string)
      (case "failed" string)))
    (export "error" (type (eq $variant)))))
  (alias export $types "error" (type $error))

  (import "parole:capabilities/input@0.1.0" (instance $input
    (export "error" (type $e (eq $error)))
    (export "input" (func (param "prompt" string) (result (result string (error $e)))))))

  (import "parole:capabilities/print@0.1.0" (instance $print
    (export "print" (func (param "text" string)))))

  (core module $Memory
    (memory (export "memory") 1)
    (data (i32.const 128) "What is your name?")
    (data (i32.const 160) "no name was given")
    ;; The greeting is put together in place: the name lands right behind "Hello, ".
    (data (i32.const 1017) "Hello, ")

    ;; The host asks for room for each string that it gives: (old, old size, align, size).
    ;; There is only one, the name, so it always lives at address 1024.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $missing i32)
      ;; Pages needed for 1024 bytes, the name and a "!", less the pages there are.
      (local.set $missing (i32.sub
        (i32.add (i32.const 1)
          (i32.shr_u (i32.add (local.get 3) (i32.const 1024)) (i32.const 16)))
        (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1))
          (then unreachable))))
      (i32.const 1024)))
  (core instance $memory (instantiate $Memory))

  (core func $input (canon lower (func $input "input")
    (memory (core memory $memory "memory"))
    (realloc (core func $memory "realloc"))))
  (core func $print (canon lower (func $print "print")
    (memory (core memory $memory "memory"))))

  (core module $Main
    (import "host" "memory" (memory 1))
    (import "host" "input" (func $input (param i32 i32 i32)))
    (import "host" "print" (func $print (param i32 i32)))

    (func (export "run") (result i32)
      (local $length i32)
      ;; The answer, a result<string, error>, is written to address 64: which of the two it is
      ;; at 64, and from 72 on the string's address and length, or the error. (72 and not 68:
      ;; the error has a case with a u64, so what follows is a multiple of 8.)
      (call $input (i32.const 128) (i32.const 18) (i32.const 64))

      (if (i32.load8_u (i32.const 64))
        (then
          ;; run's own result<_, string> is made at address 0: err, with address and length.
          (i32.store8 (i32.const 0) (i32.const 1))
          (i32.store (i32.const 4) (i32.const 160))
          (i32.store (i32.const 8) (i32.const 17))
          (return (i32.const 0))))

      (local.set $length (i32.load (i32.const 76)))
      (i32.store8 (i32.add (i32.const 1024) (local.get $length)) (i32.const 0x21)) ;; "!"
      (call $print (i32.const 1017) (i32.add (local.get $length) (i32.const 8)))
      (i32.const 0))) ;; nothing was written at address 0: ok
  (core instance $main (instantiate $Main
    (with "host" (instance
      (export "memory" (memory $memory "memory"))
      (export "input" (func $input))
      (export "print" (func $print))))))

  (func (export "run") (result (result (error string)))
    (canon lift (core func $main "run") (memory (core memory $memory "memory")))))
