"""Does with the official Python SDK what the request on standard input says, and prints what came of it.

The request and the answer are JSON; ../README.md lists their members. The CA comes in REQUESTS_CA_BUNDLE.
"""

import base64
import json
import logging
import sys

from keeper_secrets_manager_core import SecretsManager, keeper_globals
from keeper_secrets_manager_core.core import CreateOptions
from keeper_secrets_manager_core.dto.dtos import RecordCreate, RecordField
from keeper_secrets_manager_core.dto.payload import QueryOptions
from keeper_secrets_manager_core.storage import InMemoryKeyValueStorage


def open_client(request):
    # The SDK imported this table by name: it must be changed in place.
    keeper_globals.keeper_public_keys.update(request.get("builtInKeys", {}))
    if "token" in request:
        storage = InMemoryKeyValueStorage()
        client = SecretsManager(
            token=request["token"],
            hostname=request["hostname"],
            config=storage,
            server_public_key=request["serverPublicKey"],
            server_public_key_id=request["serverPublicKeyId"],
        )
    else:
        storage = InMemoryKeyValueStorage(json.dumps(request["config"]))
        client = SecretsManager(config=storage)
    return client, storage


def file_of(file):
    answer = {"name": file.name, "title": file.title, "type": file.type, "size": file.size}
    try:
        answer["content"] = base64.b64encode(file.get_file_data()).decode()
    except Exception as error:
        answer["error"] = type(error).__name__
    return answer


def record_of(record):
    return {
        "uid": record.uid,
        "revision": record.revision,
        "folder": record.folder_uid or None,
        "innerFolder": record.inner_folder_uid or None,
        "data": record.dict,
        "files": [file_of(file) for file in record.files],
    }


def notation(client, text):
    try:
        return {"values": client.get_notation_results(text)}
    except Exception as error:
        return {"error": str(error)}


def write(client, request):
    record = RecordCreate("login", "made by Python")
    record.fields = [RecordField(field_type="login", value="one")]
    uid = client.create_secret_with_options(CreateOptions(request["folder"], request.get("subFolder")), record)
    created = client.get_secrets([uid])[0]
    created.set_standard_field_value("login", "two")
    client.save(created)
    updated = client.get_secrets([uid])[0]
    deleted = client.delete_secret([uid])
    return {
        "inFolder": created.inner_folder_uid or created.folder_uid,
        "login": updated.get_standard_field_value("login", single=True),
        "grew": updated.revision > created.revision,
        "deleted": [answer["responseCode"] for answer in deleted],
        "left": len(client.get_secrets([uid])),
    }


def main():
    logging.disable(logging.CRITICAL)
    request = json.load(sys.stdin)
    client, storage = open_client(request)
    answer = {}
    try:
        if "write" in request:
            answer["write"] = write(client, request["write"])
        else:
            options = QueryOptions(request.get("filter", []), [])
            response = client.get_secrets_with_options(options, full_response=True)
            answer["application"] = response.appData.title
            answer["warnings"] = response.warnings or []
            answer["records"] = [record_of(record) for record in response.records]
            answer["folders"] = [
                {"uid": folder.folder_uid, "parent": folder.parent_uid or None, "name": folder.name}
                for folder in client.get_folders()
            ]
            answer["notations"] = {text: notation(client, text) for text in request.get("notations", [])}
    except Exception as error:
        answer["error"] = str(error)
    answer["config"] = {key.value: value for key, value in storage.config.items()}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
