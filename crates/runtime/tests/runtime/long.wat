;; A guest that computes, sleeps and prints, for tests of time and of replay.
(component
  (import "parole:capabilities/types@0.1.0" (instance $types
    (type $error (variant (case "denied" string) (case "expired") (case "canceled") (case "closed")
      (case "not-found") (case "invalid" string) (case "too-large" u64) (case "exhausted" string)
      (case "failed" string)))
    (export "error" (type (eq $error)))))
  (alias export $types "error" (type $error))
  (import "parole:capabilities/sleep@0.1.0" (instance $sleep
    (alias outer 1 $error (type $e))
    (export "error" (type $e2 (eq $e)))
    (export "sleep" (func (param "duration-ms" u64) (result (result (error $e2)))))))
  (import "parole:capabilities/print@0.1.0" (instance $print
    (export "print" (func (param "text" string)))))
  (core module $Memory
    (memory (export "memory") 1)
    (data (i32.const 32) "line")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $m (instantiate $Memory))
  (core func $sleep (canon lower (func $sleep "sleep")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core func $print (canon lower (func $print "print") (memory (core memory $m "memory"))))
  (core module $Main
    (import "h" "memory" (memory 1))
    (import "h" "sleep" (func $sleep (param i64 i32)))
    (import "h" "print" (func $print (param i32 i32)))
    (func $burn (param $times i32) (local $n i32)
      (loop $outer
        (local.set $n (i32.const 10000000))
        (loop $inner
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br_if $inner (local.get $n)))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br_if $outer (local.get $times))))
    ;; Ten million rounds, so many times.
    (func (export "burn") (param $times i32) (call $burn (local.get $times)))
    (func (export "burn-sleep") (param $times i32)
      (call $burn (local.get $times))
      (call $sleep (i64.const 1) (i32.const 256))
      (call $print (i32.const 32) (i32.const 4)))
    ;; Each wait is followed by work: time after a resume counts from the wait on.
    (func (export "sleep-burn") (param $rounds i32) (param $times i32)
      (loop $outer
        (call $sleep (i64.const 1) (i32.const 256))
        (call $burn (local.get $times))
        (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
        (br_if $outer (local.get $rounds)))
      (call $print (i32.const 32) (i32.const 4)))
    (func (export "print-nothing") (loop $again (call $print (i32.const 0) (i32.const 0)) (br $again))))
  (core instance $i (instantiate $Main (with "h" (instance
    (export "memory" (memory $m "memory")) (export "sleep" (func $sleep)) (export "print" (func $print))))))
  (func (export "burn") (param "times" u32) (canon lift (core func $i "burn")))
  (func (export "burn-sleep") (param "times" u32) (canon lift (core func $i "burn-sleep")))
  (func (export "sleep-burn") (param "rounds" u32) (param "times" u32) (canon lift (core func $i "sleep-burn")))
  (func (export "print-nothing") (canon lift (core func $i "print-nothing"))))
