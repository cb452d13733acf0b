;; Acts on the outside as it is told to, and prints what came of it: an answer, or which error it is with its text.
;; With `ask` a person is asked something harmless before, so that it can be left waiting right before the act.
(component
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
  (import "parole:capabilities/print@0.1.0" (instance $print
    (export "print" (func (param "text" string)))))
  (import "parole:capabilities/input@0.1.0" (instance $input
    (export "error" (type $e (eq $error)))
    (export "input" (func (param "prompt" string) (result (result string (error $e)))))))
  (import "parole:capabilities/read-file@0.1.0" (instance $read-file
    (export "error" (type $e (eq $error)))
    (export "read-file" (func (param "path" string) (result (result (list u8) (error $e)))))))
  (import "parole:capabilities/write-file@0.1.0" (instance $write-file
    (export "error" (type $e (eq $error)))
    (export "write-file" (func (param "path" string) (param "contents" (list u8)) (result (result (error $e)))))))
  (import "parole:capabilities/fetch@0.1.0" (instance $fetch
    (export "error" (type $e (eq $error)))
    (type $h (record (field "name" string) (field "value" string)))
    (export "header" (type $header (eq $h)))
    (type $q (record (field "method" string) (field "url" string) (field "headers" (list $header))
      (field "body" (option (list u8)))))
    (export "request" (type $request (eq $q)))
    (type $a (record (field "status" u16) (field "headers" (list $header)) (field "body" (list u8))))
    (export "response" (type $response (eq $a)))
    (export "fetch" (func (param "request" $request) (result (result $response (error $e)))))))
  (import "parole:capabilities/query@0.1.0" (instance $query
    (export "error" (type $e (eq $error)))
    (type $v (variant (case "null") (case "integer" s64) (case "real" f64) (case "text" string)
      (case "blob" (list u8))))
    (export "value" (type $value (eq $v)))
    (type $r (record (field "columns" (list string)) (field "rows" (list (list $value)))))
    (export "rows" (type $rows (eq $r)))
    (export "query" (func (param "database" string) (param "sql" string) (param "parameters" (list $value))
      (result (result $rows (error $e)))))))

  (core module $Memory
    (memory (export "memory") 2)
    ;; The cases of the error, 16 bytes each, and how long each name is.
    (data (i32.const 256) "denied          expired         canceled        closed          not-found       ")
    (data (i32.const 336) "invalid         too-large       exhausted       failed          ")
    (data (i32.const 400) "\06\07\08\06\09\07\09\09\06")
    (data (i32.const 416) "POST")
    (data (i32.const 420) "go on?")
    (data (i32.const 428) "written")
    (data (i32.const 436) "changed")

    ;; Room is taken from 65536 upwards, and never given back.
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.sub (i32.add (global.get $next) (local.get $align)) (i32.const 1))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (memory.copy (local.get $at) (local.get $old) (local.get $old-size))
      (local.get $at)))
  (core instance $memory (instantiate $Memory))

  (core func $print (canon lower (func $print "print") (memory (core memory $memory "memory"))))
  (core func $input (canon lower (func $input "input")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $read-file (canon lower (func $read-file "read-file")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $write-file (canon lower (func $write-file "write-file")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $fetch (canon lower (func $fetch "fetch")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $query (canon lower (func $query "query")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))

  (core module $Main
    (import "host" "memory" (memory 2))
    (import "host" "print" (func $print (param i32 i32)))
    (import "host" "input" (func $input (param i32 i32 i32)))
    (import "host" "read-file" (func $read-file (param i32 i32 i32)))
    (import "host" "write-file" (func $write-file (param i32 i32 i32 i32 i32)))
    (import "host" "fetch" (func $fetch (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "query" (func $query (param i32 i32 i32 i32 i32 i32 i32)))

    ;; Results are written to address 0: whether it is an error, and from 8 on which one, or the answer.
    ;; Prints the error if it is one, and says whether it was.
    (func $failed (result i32)
      (local $case i32)
      (if (i32.eqz (i32.load8_u (i32.const 0))) (then (return (i32.const 0))))
      (local.set $case (i32.load8_u (i32.const 8)))
      (call $print
        (i32.add (i32.const 256) (i32.mul (local.get $case) (i32.const 16)))
        (i32.load8_u (i32.add (i32.const 400) (local.get $case))))
      (if (i32.or
            (i32.or (i32.eq (local.get $case) (i32.const 0)) (i32.eq (local.get $case) (i32.const 5)))
            (i32.or (i32.eq (local.get $case) (i32.const 7)) (i32.eq (local.get $case) (i32.const 8))))
        (then (call $print (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
      (i32.const 1))
    (func $wait (param $ask i32)
      (if (local.get $ask)
        (then
          (call $input (i32.const 420) (i32.const 6) (i32.const 0))
          (drop (call $failed)))))

    ;; Prints the body of the answer.
    (func $post (export "post") (param $ask i32) (param $url i32) (param $url-length i32) (param $body i32) (param $size i32)
      (call $wait (local.get $ask))
      (call $fetch (i32.const 416) (i32.const 4) (local.get $url) (local.get $url-length) (i32.const 0) (i32.const 0)
        (i32.const 1) (local.get $body) (local.get $size) (i32.const 0))
      (if (i32.eqz (call $failed)) (then (call $print (i32.load (i32.const 20)) (i32.load (i32.const 24))))))
    ;; The same request twice.
    (func (export "post-twice") (param $ask i32) (param $url i32) (param $url-length i32) (param $body i32) (param $size i32)
      (call $post (local.get $ask) (local.get $url) (local.get $url-length) (local.get $body) (local.get $size))
      (call $post (i32.const 0) (local.get $url) (local.get $url-length) (local.get $body) (local.get $size)))
    (func (export "change") (param $ask i32) (param $database i32) (param $length i32) (param $sql i32) (param $size i32)
      (call $wait (local.get $ask))
      (call $query (local.get $database) (local.get $length) (local.get $sql) (local.get $size)
        (i32.const 0) (i32.const 0) (i32.const 0))
      (if (i32.eqz (call $failed)) (then (call $print (i32.const 436) (i32.const 7)))))
    (func (export "write") (param $ask i32) (param $path i32) (param $length i32) (param $text i32) (param $size i32)
      (call $wait (local.get $ask))
      (call $write-file (local.get $path) (local.get $length) (local.get $text) (local.get $size) (i32.const 0))
      (if (i32.eqz (call $failed)) (then (call $print (i32.const 428) (i32.const 7)))))
    ;; Prints what is in the file, then waits, so many times.
    (func (export "look") (param $path i32) (param $length i32) (param $times i32)
      (loop $again
        (call $read-file (local.get $path) (local.get $length) (i32.const 0))
        (if (i32.eqz (call $failed)) (then (call $print (i32.load (i32.const 8)) (i32.load (i32.const 12)))))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (if (local.get $times)
          (then
            (call $wait (i32.const 1))
            (br $again))))))
  (core instance $main (instantiate $Main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "print" (func $print))
    (export "input" (func $input))
    (export "read-file" (func $read-file))
    (export "write-file" (func $write-file))
    (export "fetch" (func $fetch))
    (export "query" (func $query))))))

  (func (export "post") (param "ask" bool) (param "url" string) (param "body" string)
    (canon lift (core func $main "post")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "post-twice") (param "ask" bool) (param "url" string) (param "body" string)
    (canon lift (core func $main "post-twice")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "change") (param "ask" bool) (param "database" string) (param "sql" string)
    (canon lift (core func $main "change")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "write") (param "ask" bool) (param "path" string) (param "contents" string)
    (canon lift (core func $main "write")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "look") (param "path" string) (param "times" u32)
    (canon lift (core func $main "look")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))
