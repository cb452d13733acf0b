;; Two functions and no imports: it can reach nothing at all.
;;
;;   parole run guest-examples/wat/add.wat --invoke 'add(2, 3)'
;;   parole run guest-examples/wat/add.wat --invoke 'greet("Ada")'
(component
  (core module $Main
    (memory (export "memory") 1)

    ;; The greeting is put together in place: the name lands right behind "Hello, ".
    (data (i32.const 1017) "Hello, ")

    ;; The host asks for room for each string that it passes in: (old, old size, align, size).
    ;; There is only ever one, so it always lives at address 1024.
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
      (i32.const 1024))

    ;; A sum that is too large starts again at 0.
    (func (export "add") (param $a i32) (param $b i32) (result i32)
      (i32.add (local.get $a) (local.get $b)))

    ;; A string comes in as address and length, and goes out as the address of such a pair.
    (func (export "greet") (param $name i32) (param $length i32) (result i32)
      (i32.store8 (i32.add (local.get $name) (local.get $length)) (i32.const 0x21)) ;; "!"
      (i32.store (i32.const 0) (i32.const 1017))
      (i32.store (i32.const 4) (i32.add (local.get $length) (i32.const 8)))
      (i32.const 0)))
  (core instance $main (instantiate $Main))

  (func (export "add") (param "a" u32) (param "b" u32) (result u32)
    (canon lift (core func $main "add")))

  (func (export "greet") (param "name" string) (result string)
    (canon lift (core func $main "greet")
      (memory (core memory $main "memory"))
      (realloc (core func $main "realloc")))))
