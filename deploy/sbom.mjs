// Prints the software bill of materials of the four programs in CycloneDX's JSON format: every crate that is compiled into
// them, with its checksum from Cargo.lock, and the packages of which the web interfaces consist. Run it in a checkout:
//
//   node deploy/sbom.mjs >monlight.cdx.json

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (name) => readFileSync(`${root}/${name}`, 'utf8')

/** Checksums by `name@version`, and the own version. */
function readCargoLock() {
  const packages = read('Cargo.lock').split('[[package]]').slice(1)
  const field = (text, name) => text.match(new RegExp(`^${name} = "(.*)"$`, 'm'))?.[1]
  return new Map(packages.map((text) => [`${field(text, 'name')}@${field(text, 'version')}`, field(text, 'checksum')]))
}

/** The crates that are linked into the programs or run while they are compiled, as `name@version license`. */
function readCargoTree() {
  const args = ['tree', '--locked', '--edges', 'normal,build', '--prefix', 'none', '--format', '{p}|{l}']
  const lines = execFileSync('cargo', args, { cwd: root, encoding: 'utf8' }).split('\n')
  const crates = lines.map((line) => line.match(/^(\S+) v(\S+)[^|]*\|([^*]*)/)).filter((match) => match)
  return new Map(crates.map(([, name, version, license]) => [`${name}@${version}`, { name, version, license: license.trim() }]))
}

const checksums = readCargoLock()
const crates = [...readCargoTree()]
  .filter(([, { name }]) => name !== 'monlight')
  .map(([id, { name, version, license }]) => ({
    type: 'library',
    'bom-ref': `pkg:cargo/${id}`,
    name,
    version,
    purl: `pkg:cargo/${id}`,
    hashes: [{ alg: 'SHA-256', content: checksums.get(id) }],
    licenses: license ? [{ expression: license.replaceAll('/', ' OR ') }] : [],
  }))
const packages = Object.entries(JSON.parse(read('static/package-lock.json')).packages)
  .filter(([path, { dev }]) => path.startsWith('node_modules/') && !dev)
  .map(([path, { version, integrity, license }]) => {
    const name = path.replace(/^.*node_modules\//, '')
    const content = Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex')
    const purl = `pkg:npm/${name}@${version}`
    return {
      type: 'library',
      'bom-ref': purl,
      name,
      version,
      purl,
      hashes: [{ alg: 'SHA-512', content }],
      licenses: license ? [{ expression: license }] : [],
    }
  })
const version = read('Cargo.toml').match(/^version = "(.*)"$/m)[1]
const own = { type: 'application', 'bom-ref': 'monlight', name: 'monlight', version }
const components = [...crates, ...packages].sort((a, b) => (a.purl < b.purl ? -1 : 1))
console.log(JSON.stringify({ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1, metadata: { component: own }, components }, null, 2))
