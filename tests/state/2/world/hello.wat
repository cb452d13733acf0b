;; Prints one line. Run it as it is, as text: parole run guest-examples/wat/hello.wat
;;
;; A component is core modules, which know only numbers and memory, and the wiring that turns
;; numbers into WIT values. That wiring is the canonical ABI; here it is by hand.
(component
  ;; What it wants from the host, with its WIT type: print: func(text: string)
  (import "parole:capabilities/print@0.1.0" (instance $print
    (export "print" (func (param "text" string)))))

  ;; The memory has a module of its own, because `print` needs the memory and the main module
  ;; needs `print`: neither could come first otherwise.
  (core module $Memory
    (memory (export "memory") 1)
    (data (i32.const 16) "Hello from WAT"))
  (core instance $memory (instantiate $Memory))

  ;; Lower: a WIT function becomes a core one. A string is an address and a length in bytes.
  (core func $print (canon lower (func $print "print")
    (memory (core memory $memory "memory"))))

  (core module $Main
    (import "host" "print" (func $print (param i32 i32)))
    (func (export "run") (result i32)
      (call $print (i32.const 16) (i32.const 14))
      ;; A result<_, string> does not fit in one number, so its address is returned.
      ;; Its first byte says which it is: at address 0 there is a 0, which means ok.
      (i32.const 0)))
  (core instance $main (instantiate $Main
    (with "host" (instance (export "print" (func $print))))))

  ;; Lift: a core function becomes run: func() -> result<_, string>
  (func (export "run") (result (result (error string)))
    (canon lift (core func $main "run") (memory (core memory $memory "memory")))))
