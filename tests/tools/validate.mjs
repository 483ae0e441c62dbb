// Khronos' own validator: node validate.mjs model.glb [ISSUE_CODE_TO_IGNORE ...]; prints JSON.
import { readFileSync } from 'node:fs';
import validator from 'gltf-validator';

const [path, ...ignoredIssues] = process.argv.slice(2);
const report = await validator.validateBytes(new Uint8Array(readFileSync(path)), { ignoredIssues });
console.log(JSON.stringify({
    errors: report.issues.numErrors,
    warnings: report.issues.numWarnings,
    infos: report.issues.numInfos,
    hints: report.issues.numHints,
    messages: report.issues.messages,
    extensions: report.info.extensionsUsed ?? [],
    triangles: report.info.totalTriangleCount,
    vertices: report.info.totalVertexCount
}));
