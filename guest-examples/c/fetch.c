// Asks for a URL, gets it, and posts what it got to another: what came of each is printed.
//
//     printf 'http://127.0.0.1:8391/sales.csv\nhttp://127.0.0.1:8391/reports\n' >urls
//     parole run fetch-c.wasm --policy guest-examples/data/fetch.toml --stdin urls
//
// That policy has a person asked about the second: then the run ends suspended, and `parole answer`
// goes on with it. The API is that of examples/report.

#include "parole.h"

typedef struct {
  string name;
  string value;
} header;

// option<list<u8>>
typedef struct {
  uint8_t is_some;
  string bytes;
} body;

// record request. Its parts are few enough to be passed one by one: see `fetch`.
typedef struct {
  string method;
  string url;
  const header *headers;
  size_t header_count;
  body body;
} request;

// record response
typedef struct {
  uint16_t status;
  const header *headers;
  size_t header_count;
  string body;
} response;

// result<response, error>
typedef struct {
  uint8_t is_error;
  union {
    response response;
    error error;
  } of;
} fetch_result;

IMPORT("fetch", "fetch")
void host_fetch(const char *method, size_t method_length, const char *url, size_t url_length,
                const header *headers, size_t header_count, uint32_t has_body, const char *body,
                size_t body_length, fetch_result *result);

static void fetch(const request *request, fetch_result *result) {
  host_fetch(request->method.at, request->method.length, request->url.at, request->url.length,
             request->headers, request->header_count, request->body.is_some,
             request->body.bytes.at, request->body.bytes.length, result);
}

// Any status is an answer. An error is a refusal, an end without a decision, or a failure: see
// `describe`. A guest may do something else after each.
static void tell(string method, const fetch_result *result) {
  string what = join(method, STRING(": "), STRING(""));
  if (result->is_error) {
    print(join(what, describe(&result->of.error), STRING("")));
    return;
  }
  string status = decimal(result->of.response.status);
  string length = decimal(result->of.response.body.length);
  print(join(join(what, status, STRING(", ")), length, STRING(" bytes")));
}

EXPORT("run")
run_result *run(void) {
  input_result from, to;
  fetch_result got, posted;

  const string which = STRING("Get what?");
  host_input(which.at, which.length, &from);
  if (from.is_error) return ended(&from.of.error);

  const request get = {.method = STRING("GET"), .url = from.of.answer};
  fetch(&get, &got);
  tell(get.method, &got);
  if (got.is_error) return ended(NULL);

  const string where = STRING("Post it where?");
  host_input(where.at, where.length, &to);
  if (to.is_error) return ended(&to.of.error);

  const header headers[] = {{STRING("content-type"), STRING("application/octet-stream")}};
  const request post = {
      .method = STRING("POST"),
      .url = to.of.answer,
      .headers = headers,
      .header_count = 1,
      .body = {1, got.of.response.body},
  };
  fetch(&post, &posted);
  tell(post.method, &posted);
  return ended(NULL);
}
