// esbuild extracts imported style sheets into app.css.
declare module "*.css";
