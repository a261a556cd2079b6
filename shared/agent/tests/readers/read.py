"""Reads published files. In and out goes one JSON object: {"json": [path, …], "yaml": …, "ini": …} becomes the same
with what stands in the files; {"writes": [text, …]} tells which texts configparser reads back after writing them itself.
"""

import configparser
import io
import json
import sys

import yaml


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def read_yaml(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    value = yaml.load(text, yaml.SafeLoader)
    # libyaml is another parser.
    assert yaml.load(text, yaml.CSafeLoader) == value, path
    return value


def read_ini(path):
    read = []
    for parser in configparser.ConfigParser(interpolation=None), configparser.RawConfigParser():
        assert parser.read(path, encoding="utf-8") == [path]
        read.append({name: dict(parser[name]) for name in parser.sections()})
    assert read[0] == read[1], path
    return read[0]


def writes(text):
    parser, file = configparser.RawConfigParser(), io.StringIO()
    parser["secret"] = {"value": text}
    parser.write(file)
    parser = configparser.RawConfigParser()
    try:
        # With newlines as a file has them.
        parser.read_file(io.StringIO(file.getvalue(), newline=None))
        return parser["secret"]["value"] == text
    except configparser.Error:
        return False


readers = {"json": read_json, "yaml": read_yaml, "ini": read_ini, "writes": writes}
request = json.load(sys.stdin)
json.dump({what: [readers[what](each) for each in list_] for what, list_ in request.items()}, sys.stdout)
