#!/usr/bin/env python3
"""Answers the calls of the capability acme:crm/customers: reads one promise on stdin, does the work, answers on stdout.

The exit code says what comes of it: 0 is the answer, 65 is a no with the last line of stderr, 75 is later.
"""
import json
import os
import sys

FILE = os.environ.get("CRM_FILE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "customers.json"))


def load():
    with open(FILE) as file:
        return json.load(file)


def save(customers):
    # Replaced as a whole: whoever reads it meanwhile, or after a power cut, sees the old one or the new one.
    with open(FILE + ".new", "w") as file:
        json.dump(customers, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(FILE + ".new", FILE)


def no(error):
    """An error of the function's own type: the guest gets it as it is."""
    print(json.dumps(error), file=sys.stderr)
    sys.exit(65)


promise = json.load(sys.stdin)
function = promise["tags"]["parole:function"]
arguments = json.loads(promise["param"]["data"])
customers = load()

if function == "lookup":
    customer = customers.get(arguments["id"])
    if customer is None:
        no({"unknown": arguments["id"]})
    print(json.dumps(customer))
elif function == "update":
    # Doing it twice is the same as doing it once.
    customer = arguments["customer"]
    if customer["id"] not in customers:
        no({"unknown": customer["id"]})
    customers[customer["id"]] = customer
    save(customers)
elif function == "delete":
    if customers.pop(arguments["id"], None) is None:
        no({"unknown": arguments["id"]})
    save(customers)
else:
    sys.exit("there is no function " + function)
