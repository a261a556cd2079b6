// Does with the official JavaScript SDK what the request on standard input says, and prints what came of it.
//
// The request and the answer are JSON; ../README.md lists their members. The CA comes in NODE_EXTRA_CA_CERTS.

import { createRequire } from 'node:module'
import { readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

// The SDK lives in a cache folder, not beside this file.
const sdk = createRequire(join(process.env.KEEPER_SDK_MODULES, 'client.mjs'))('@keeper-security/secrets-manager-core')

async function openClient(request) {
    const config = request.config ? { ...request.config } : {}
    const options = { storage: sdk.inMemoryStorage(config) }
    if (request.token) {
        await sdk.initializeStorage(options.storage, request.token, request.hostname)
        options.serverPublicKey = request.serverPublicKey
        options.serverPublicKeyId = request.serverPublicKeyId
    }
    return { options, config }
}

async function fileOf(file) {
    const answer = { name: file.data.name, title: file.data.title, type: file.data.type, size: file.data.size }
    try {
        answer.content = Buffer.from(await sdk.downloadFile(file)).toString('base64')
    } catch (error) {
        answer.error = error.constructor.name
    }
    return answer
}

async function recordOf(record) {
    const files = []
    for (const file of record.files ?? []) files.push(await fileOf(file))
    return {
        uid: record.recordUid,
        revision: record.revision,
        folder: record.folderUid ?? null,
        innerFolder: record.innerFolderUid ?? null,
        data: record.data,
        files,
    }
}

async function notation(options, text) {
    try {
        return { values: await sdk.getNotationResults(options, text) }
    } catch (error) {
        return { error: error.message }
    }
}

async function write(options, request) {
    const data = { title: 'made by JavaScript', type: 'login', fields: [{ type: 'login', value: ['one'] }] }
    const uid = await sdk.createSecret2(options, { folderUid: request.folder, subFolderUid: request.subFolder }, data)
    const read = async () => (await sdk.getSecrets(options, [uid])).records
    const [created] = await read()
    created.data.fields[0].value = ['two']
    await sdk.updateSecret(options, created)
    const [updated] = await read()
    const deleted = await sdk.deleteSecret(options, [uid])
    return {
        inFolder: created.innerFolderUid ?? created.folderUid,
        login: updated.data.fields[0].value[0],
        grew: updated.revision > created.revision,
        deleted: deleted.records.map(record => record.responseCode),
        left: (await read()).length,
    }
}

const request = JSON.parse(readFileSync(0, 'utf8'))
console.log = console.info = console.debug = () => {} // the SDK logs to standard output
const answer = {}
let done = false
// A promise of the SDK that is never settled leaves Node with nothing to wait for: it exits in the middle.
process.on('exit', code => {
    if (done || ![0, 13].includes(code)) return
    writeSync(1, JSON.stringify({ error: 'the SDK never came back' }))
    process.exitCode = 0
})
const { options, config } = await openClient(request)
try {
    if (request.write) {
        answer.write = await write(options, request.write)
    } else {
        const secrets = await sdk.getSecrets(options, request.filter)
        answer.application = secrets.appData.title
        answer.warnings = secrets.warnings ?? []
        answer.records = []
        for (const record of secrets.records) answer.records.push(await recordOf(record))
        const folders = await sdk.getFolders(options)
        answer.folders = folders.map(folder => ({
            uid: folder.folderUid,
            parent: folder.parentUid ?? null,
            name: folder.name,
        }))
        answer.notations = {}
        for (const text of request.notations ?? []) answer.notations[text] = await notation(options, text)
    }
} catch (error) {
    answer.error = error.message
}
answer.config = config
done = true
process.stdout.write(JSON.stringify(answer))
