"""The Ekiden machine-learning container: `export`, `process`, `train` and `serve` behind SageMaker's
`/opt/ml` contract."""
