// Compiles contracts with npm's solc: `compile.mjs [--check] [DIRECTORY]`, by default the sandbox's own. `--check` compares
// the committed artifacts with their sources and exits 1 when they differ; it writes nothing.
// A directory with a `solc.json` holds contracts that are deployed: its settings apply, and artifacts have creation code.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import solc from 'solc'

const check = process.argv.includes('--check')
const home = dirname(fileURLToPath(import.meta.url))
const named = process.argv.slice(2).find((argument) => !argument.startsWith('--'))
const here = named === undefined ? home : resolve(named)
const build = join(here, 'build')
const deployed = JSON.parse(committed(join(here, 'solc.json')) ?? 'null')

// No metadata hash: the same source gives the same bytes wherever it is compiled. The EVM is the one that chain.py starts.
const settings = {
  evmVersion: 'prague',
  metadata: { appendCBOR: false, bytecodeHash: 'none' },
  optimizer: { enabled: true, runs: 200 },
  outputSelection: {
    '*': { '*': ['abi', ...(deployed ? ['evm.bytecode.object'] : []), 'evm.deployedBytecode', 'evm.methodIdentifiers'] }
  },
  viaIR: false,
  ...deployed
}

function compile (file) {
  const source = readFileSync(join(here, file), 'utf8')
  const input = { language: 'Solidity', settings, sources: { [file]: { content: source } } }
  const output = JSON.parse(solc.compile(JSON.stringify(input)))
  const complaints = (output.errors ?? []).map((error) => error.formattedMessage)
  if (complaints.length > 0) throw new Error(complaints.join('\n'))
  const name = file.replace(/\.sol$/, '')
  const { abi, evm: { bytecode, deployedBytecode, methodIdentifiers } } = output.contracts[file][name]
  // setCode runs no constructor, and an artifact that is deployed is compared with the code on chain: an immutable would
  // stay zero there, a library unlinked.
  for (const hole of ['immutableReferences', 'linkReferences']) {
    if (Object.keys(deployedBytecode[hole] ?? {}).length > 0) throw new Error(`${file}: ${hole} cannot be placed by setCode`)
  }
  return {
    name,
    text: JSON.stringify({
      contract: name,
      source: file,
      sourceSha256: createHash('sha256').update(source).digest('hex'),
      solc: { version: solc.version(), settings },
      abi,
      selectors: methodIdentifiers,
      ...(deployed && { creationBytecode: '0x' + bytecode.object }),
      runtimeBytecode: '0x' + deployedBytecode.object
    }, null, 2) + '\n'
  }
}

function committed (path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return null
    throw error
  }
}

const sources = readdirSync(here).filter((file) => file.endsWith('.sol')).sort()
const artifacts = sources.map(compile)
let stale = 0

if (!check) mkdirSync(build, { recursive: true })
for (const { name, text } of artifacts) {
  const path = join(build, `${name}.json`)
  if (!check) {
    writeFileSync(path, text)
  } else if (committed(path) !== text) {
    console.error(`${name}.json does not match ${name}.sol; run: npm run compile --prefix sandbox`)
    stale += 1
  }
}
const known = new Set(artifacts.map(({ name }) => `${name}.json`))
for (const file of readdirSync(build)) {
  if (!known.has(file)) {
    console.error(`${file} has no source`)
    stale += 1
  }
}
process.exitCode = stale > 0 ? 1 : 0
